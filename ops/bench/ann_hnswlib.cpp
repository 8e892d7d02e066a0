/* ann_hnswlib: hnswlib on one set of ops/bench/ann, a JSON line a measured point. Built by ops/bench/ann where the header
 * (Debian's libhnswlib-dev) and a C++ compiler are, for the CPU it runs on, as its users build it; no part of any other build.
 *
 *   ann_hnswlib SET_DIRECTORY l2|cosine|ip THREADS SECONDS QUICK(0|1)
 *
 * One thread, one query at a time, in CPU time; then all threads, each with queries of its own, in wall time. An index that
 * was built before is read: it takes many minutes, and how many is kept beside it. Full vectors read: the distances it
 * computes. */
#include <hnswlib/hnswlib.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

static const size_t links = 16, ef_construction = 200, singles_min = 20, recalls_min = 200;

struct matrix {
    uint32_t count = 0, dim = 0;
    std::vector<float> rows;
    const float *row(size_t i) const { return rows.data() + i * dim; }
};

static void fail(const std::string &what)
{
    std::fprintf(stderr, "ann_hnswlib: %s\n", what.c_str());
    std::exit(1);
}

static std::ifstream open_fbin(const std::string &path, matrix &head)
{
    std::ifstream file(path, std::ios::binary);
    file.read(reinterpret_cast<char *>(&head.count), 4).read(reinterpret_cast<char *>(&head.dim), 4);
    if (!file || !head.count || !head.dim)
        fail(path + ": no .fbin");
    return file;
}

static matrix read_fbin(const std::string &path)
{
    matrix m;
    std::ifstream file = open_fbin(path, m);
    m.rows.resize(size_t(m.count) * m.dim);
    if (!file.read(reinterpret_cast<char *>(m.rows.data()), std::streamsize(m.rows.size() * 4)))
        fail(path + ": ends early");
    return m;
}

static std::vector<std::vector<int32_t>> read_ivecs(const std::string &path)
{
    std::vector<std::vector<int32_t>> out;
    std::ifstream file(path, std::ios::binary);
    for (int32_t n; file.read(reinterpret_cast<char *>(&n), 4);) {
        out.emplace_back(size_t(n));
        if (!file.read(reinterpret_cast<char *>(out.back().data()), std::streamsize(n) * 4))
            fail(path + ": ends early");
    }
    return out;
}

static double wall()
{
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static double cpu()
{
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return double(t.tv_sec) + double(t.tv_nsec) * 1e-9;
}

/* Calls work(i) for every i below count, on so many threads. */
template <class F> static void spread(size_t count, size_t threads, F work)
{
    std::atomic<size_t> next{0};
    std::vector<std::thread> all;
    for (size_t t = 0; t < threads; t++)
        all.emplace_back([&] {
            for (size_t i; (i = next++) < count;)
                work(i);
        });
    for (auto &t : all)
        t.join();
}

using answers = std::vector<std::priority_queue<std::pair<float, hnswlib::labeltype>>>;

static double recall_of(answers &found, const std::vector<std::vector<int32_t>> &truth, size_t k)
{
    size_t hits = 0;
    for (size_t q = 0; q < found.size(); q++) {
        const std::set<int32_t> wanted(truth[q].begin(), truth[q].begin() + long(k));
        for (; !found[q].empty(); found[q].pop())
            hits += wanted.count(int32_t(found[q].top().second));
    }
    return double(hits) / double(found.size() * k);
}

using graph = hnswlib::HierarchicalNSW<float>;

/* Adds the base, read in runs so that it is in memory once only. */
static double build(graph &index, const std::string &path, size_t threads)
{
    double began = wall();
    matrix run;
    std::ifstream file = open_fbin(path, run);
    const size_t count = run.count, rows = 20000;
    run.rows.resize(rows * run.dim);
    for (size_t start = 0; start < count; start += rows) {
        size_t n = std::min(rows, count - start);
        if (!file.read(reinterpret_cast<char *>(run.rows.data()), std::streamsize(n * run.dim * 4)))
            fail(path + ": ends early");
        if (start == 0)
            index.addPoint(run.row(0), 0);
        spread(n, threads, [&](size_t i) {
            if (start + i)
                index.addPoint(run.row(i), start + i);
        });
    }
    return wall() - began;
}

int main(int argc, char **argv)
{
    if (argc != 6)
        fail("usage: ann_hnswlib SET_DIRECTORY l2|cosine|ip THREADS SECONDS QUICK");
    const std::string directory = argv[1], kept = directory + "/hnswlib-16-200.index";
    const std::string note = directory + "/hnswlib-16-200.seconds";
    const size_t threads = std::strtoul(argv[3], nullptr, 10);
    const double seconds = std::strtod(argv[4], nullptr);
    const bool quick = argv[5][0] == '1';
    matrix queries = read_fbin(directory + "/queries.fbin"), head;
    open_fbin(directory + "/base.fbin", head);
    const auto truth = read_ivecs(directory + "/truth.ivecs");
    if (threads == 0 || truth.size() != queries.count)
        fail("threads, or truth that is not of these queries");

    hnswlib::L2Space l2(queries.dim);
    hnswlib::InnerProductSpace ip(queries.dim);
    hnswlib::SpaceInterface<float> *space = &ip;
    if (std::string(argv[2]) == "l2")
        space = &l2;
    std::unique_ptr<graph> index;
    double built = 0;
    if (std::ifstream(note) >> built) {
        index.reset(new graph(space, kept));
    } else {
        index.reset(new graph(space, head.count, links, ef_construction));
        built = build(*index, directory + "/base.fbin", threads);
        index->saveIndex(kept);
        std::ofstream(note) << built << '\n';
    }
    std::ifstream file(kept, std::ios::binary | std::ios::ate);
    const double whole = double(file.tellg()) / head.count;

    for (size_t k : {size_t(10), size_t(100)}) {
        double last = -1;
        for (int step = 0;; step += quick ? 2 : 1) {
            const size_t ef = size_t(std::lround(double(k) * std::pow(2, step / 2.0)));
            if (ef > 4096)
                break;
            index->setEf(ef);
            size_t done = 0;
            double began = cpu(), from = wall();
            for (; done < singles_min || wall() - from < seconds; done++)
                index->searchKnn(queries.row(done % queries.count), k);
            const double spent = (cpu() - began) / double(done);

            const size_t some = std::min(size_t(queries.count), std::max(recalls_min, size_t(4 * seconds / spent)));
            answers found(some);
            index->metric_distance_computations = 0;
            size_t asked = 0;
            for (from = wall(); asked == 0 || wall() - from < seconds; asked += some)
                spread(some, threads, [&](size_t q) { found[q] = index->searchKnn(queries.row(q), k); });
            const double all = double(asked) / (wall() - from), recall = recall_of(found, truth, k);
            const double reads = double(index->metric_distance_computations) / double(asked);
            std::printf("{\"engine\": \"hnswlib\", \"k\": %zu, \"knobs\": {\"ef\": %zu}, \"recall\": %.5f, \"qps\": %.1f, "
                        "\"qps_all\": %.1f, \"reads\": %.1f, \"bytes\": %.1f, \"bytes_full\": %.1f, \"train_s\": 0, "
                        "\"build_s\": %.2f}\n",
                        k, ef, recall, 1 / spent, all, reads, whole - 4.0 * queries.dim, whole, built);
            std::fflush(stdout);
            if (recall > 0.9995 || (recall > 0.5 && recall < last + 0.0003))
                break;
            last = recall;
        }
    }
    return 0;
}
