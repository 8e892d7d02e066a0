"""The checker finds what breaks a rule, and nothing else. Histories are drawn by hand; times in them are seconds."""

import itertools
import random

import pytest

from checker import Crowd, check, check_linearizable, points_of, value_of, windows_without_success
from history import Recorder, load, parse
from linear import check_point
from vectors import DIM, Distances, query_of, vectors_of

distances = Distances(3000)


def op(name, key, call, ret, value=None, result=None, status="ok", **more):
    return {"client": more.pop("client", "c"), "op": name, "key": key, "value": value, "result": result,
            "call": call * 1e9, "return": ret * 1e9, "status": status, **more}


def up(key, value, call, ret, **more):
    return op("upsert", key, call, ret, value, **more)


def get(key, result, call, ret, **more):
    return op("get", key, call, ret, result=result, **more)


def delete(key, call, ret, result=None, **more):
    return op("delete", key, call, ret, result=result, **more)


def search(hits, call, ret, k=2, query=0):
    """hits: (key, value[, distance])."""
    measured = [(h[0], h[2] if len(h) > 2 else float(distances([h[1]], query)[0]), h[1]) for h in hits]
    return {"client": "s", "op": "search", "query": query, "k": k, "hits": measured, "call": call * 1e9,
            "return": ret * 1e9, "status": "ok"}


def fault(name, call, ret, allows=("UNAVAILABLE",)):
    return {"fault": name, "on": "n0", "call": call * 1e9, "return": ret * 1e9, "allows": allows}


def rules(*lines, **options):
    """Names of the rules broken."""
    return {f.rule for f in check(*parse(lines), **options)}


# Values by their distance from query 0, nearest first.
NEAREST = sorted(range(100), key=lambda v: distances([v], 0)[0])


# ---------------------------------------------------------------- points

def test_operations_one_after_the_other_are_fine():
    assert rules(get(1, None, 0, 1), up(1, 10, 1, 2), get(1, 10, 3, 4), delete(1, 5, 6, True), get(1, None, 7, 8),
                 delete(1, 9, 10, False)) == set()


def test_a_get_beside_a_write_may_see_either():
    for seen in (10, 11):
        assert rules(up(1, 10, 0, 1), up(1, 11, 2, 5), get(1, seen, 3, 4)) == set()


def test_a_lost_write_is_found():
    assert rules(up(1, 10, 0, 1), get(1, None, 2, 3)) == {"linearizable", "lost"}
    assert rules(up(1, 10, 0, 1), up(1, 11, 2, 3), get(1, 10, 4, 5)) == {"linearizable", "lost"}


def test_a_revived_delete_is_found():
    assert rules(up(1, 10, 0, 1), delete(1, 2, 3), get(1, 10, 4, 5)) == {"linearizable", "revived"}


def test_a_value_that_nobody_wrote_is_found():
    assert "linearizable" in rules(up(1, 10, 0, 1), get(1, 99, 2, 3))


def test_a_value_of_another_point_is_found():
    assert "linearizable" in rules(up(1, 10, 0, 1), up(2, 20, 0, 1), get(1, 20, 2, 3))


def test_time_that_runs_backwards_between_two_gets_is_found():
    """Each get alone is explained by intervals: only the search for an order sees it."""
    assert rules(up(1, 10, 0, 1), up(1, 11, 2, 9), get(1, 11, 3, 4), get(1, 10, 5, 6)) == {"linearizable"}


def test_writes_side_by_side_have_one_order_for_all():
    both = [up(1, 10, 0, 5, client="a"), up(1, 11, 0, 5, client="b")]
    assert rules(*both, get(1, 10, 6, 7), get(1, 10, 8, 9)) == set()
    assert rules(*both, get(1, 10, 6, 7), get(1, 11, 8, 9)) == {"linearizable"}


def test_an_unknown_write_may_take_effect_late_or_never():
    unknown = up(1, 11, 2, 3, status="unknown", code="UNAVAILABLE")
    around = fault("kill", 1, 4)
    assert rules(up(1, 10, 0, 1), unknown, get(1, 10, 4, 5), get(1, 11, 6, 7), around) == set()
    assert rules(up(1, 10, 0, 1), unknown, get(1, 10, 4, 5), get(1, 10, 6, 7), around) == set()
    assert rules(up(1, 10, 0, 1), unknown, get(1, 11, 4, 5), get(1, 10, 6, 7), around) == {"linearizable"}


def test_an_unknown_delete_takes_effect_once():
    unknown = delete(1, 2, 3, status="unknown", code="UNAVAILABLE")
    around = fault("kill", 1, 4)
    assert rules(up(1, 10, 0, 1), unknown, get(1, 10, 4, 5), get(1, None, 6, 7), around) == set()
    assert rules(up(1, 10, 0, 1), unknown, get(1, None, 4, 5), up(1, 11, 6, 7), get(1, None, 8, 9), around) == {"linearizable"}


def test_a_failed_write_never_takes_effect():
    failed = up(1, 11, 2, 3, status="failed", code="UNAVAILABLE")
    assert rules(up(1, 10, 0, 1), failed, get(1, 10, 4, 5), fault("kill", 1, 4)) == set()
    assert "linearizable" in rules(up(1, 10, 0, 1), failed, get(1, 11, 4, 5), fault("kill", 1, 4))


def test_a_delete_that_tells_wrongly_is_found():
    assert rules(up(1, 10, 0, 1), delete(1, 2, 3, False)) == {"linearizable"}
    assert rules(delete(1, 2, 3, True)) == {"linearizable"}


def test_a_get_is_no_earlier_than_its_call():
    assert rules(up(1, 10, 0, 1), get(1, 11, 2, 3), up(1, 11, 4, 5)) == {"linearizable", "lost"}


def explained_by_hand(operations):
    """Linearizable by trying every order of every choice of the unknown writes: the definition."""
    certain = [o for o in operations if o.status == "ok"]
    maybe = [o for o in operations if o.status == "unknown"]
    for count in range(len(maybe) + 1):
        for chosen in itertools.combinations(maybe, count):
            for order in itertools.permutations(certain + list(chosen)):
                if any(order[j].ret < order[i].call for i in range(len(order)) for j in range(i + 1, len(order))):
                    continue
                state, good = None, True
                for o in order:
                    if o.op == "get":
                        good = o.result == state
                    elif o.op == "delete":
                        good = o.status == "unknown" or o.result is None or o.result == (state is not None)
                        state = None
                    else:
                        state = o.value
                    if not good:
                        break
                if good:
                    return True
    return False


@pytest.mark.parametrize("seed", range(400))
def test_the_search_says_what_trying_every_order_says(seed):
    dice = random.Random(seed)
    lines, values = [], itertools.count(1)
    for _ in range(dice.randint(2, 6)):
        call = dice.randint(0, 12)
        ret, kind = call + dice.randint(1, 6), dice.choice(["upsert", "upsert", "delete", "get", "get"])
        status = "unknown" if kind != "get" and dice.random() < 0.3 else "ok"
        if kind == "upsert":
            lines.append(up(1, next(values), call, ret, status=status))
        elif kind == "delete":
            lines.append(delete(1, call, ret, dice.choice([None, True, False]) if status == "ok" else None, status=status))
        else:
            lines.append(get(1, dice.choice([None, 1, 1, 2, 3]), call, ret))
    operations, _ = parse(lines)
    assert (check_point(operations) is None) == explained_by_hand(operations), [o.told_as() for o in operations]


def test_many_unknown_writes_do_not_multiply_the_search():
    lines = [up(1, 1000, 0, 1)]
    for i in range(300):
        lines += [up(1, i, 2 + i, 2.1 + i, status="unknown"), delete(1, 2.2 + i, 2.3 + i, status="unknown"),
                  get(1, 1000, 2.5 + i, 2.6 + i)]
    lines += [delete(1, 400, 401, True), delete(1, 402, 403, True), delete(1, 404, 405, False)]
    assert list(check_linearizable(points_of(parse(lines)[0]))) == []


# ---------------------------------------------------------------- searches

def test_an_exact_search_that_is_right():
    a, b, c = NEAREST[:3]
    written = [up(1, c, 0, 1), up(2, a, 0, 1), up(3, b, 0, 1)]
    assert rules(*written, search([(2, a), (3, b)], 2, 3)) == set()


def test_a_nearer_point_left_out_is_found():
    a, b, c = NEAREST[:3]
    written = [up(1, c, 0, 1), up(2, a, 0, 1), up(3, b, 0, 1)]
    assert rules(*written, search([(2, a), (1, c)], 2, 3)) == {"search"}
    assert rules(*written, search([(2, a)], 2, 3)) == {"search"}  # fewer hits than points


def test_a_point_written_during_the_search_may_be_in_or_out():
    a, b, c = NEAREST[:3]
    written = [up(1, c, 0, 1), up(2, a, 0, 1), up(3, b, 2, 5)]
    assert rules(*written, search([(2, a), (3, b)], 3, 4)) == set()
    assert rules(*written, search([(2, a), (1, c)], 3, 4)) == set()


def test_a_point_that_was_near_before_and_after_must_be_there():
    a, b, c, d = NEAREST[:4]
    written = [up(1, d, 0, 1), up(2, c, 0, 1), up(3, b, 0, 1), up(3, a, 2, 5)]
    assert rules(*written, search([(3, a), (2, c)], 3, 4)) == set()
    assert rules(*written, search([(3, b), (2, c)], 3, 4)) == set()
    assert rules(*written, search([(2, c), (1, d)], 3, 4)) == {"search"}


def test_a_hit_that_was_deleted_before_is_found():
    a, b = NEAREST[:2]
    lines = [up(1, a, 0, 1), up(2, b, 0, 1), delete(1, 2, 3)]
    assert rules(*lines, search([(2, b)], 4, 5)) == set()
    assert rules(*lines, search([(1, a), (2, b)], 4, 5)) == {"search"}


def test_a_hit_of_an_old_value_is_found_unless_searches_may_be_behind():
    a, b = NEAREST[:2]
    lines = [up(1, a, 0, 1), up(1, b, 2, 3), search([(1, a)], 6, 7)]
    assert rules(*lines) == {"search"}
    assert rules(*lines, stale_s=2) == {"search"}
    assert rules(*lines, stale_s=4) == set()


def test_a_wrong_distance_a_wrong_order_and_a_point_twice_are_found():
    a, b = NEAREST[:2]
    written = [up(1, a, 0, 1), up(2, b, 0, 1)]
    assert rules(*written, search([(1, a, 0.5), (2, b)], 2, 3)) == {"search"}
    assert rules(*written, search([(2, b), (1, a)], 2, 3)) == {"search"}
    assert rules(*written, search([(1, a), (1, a), (2, b)], 2, 3, k=3)) == {"search"}


def test_what_is_read_with_a_hit_may_be_newer_than_its_distance_but_not_older_than_the_search():
    a, b = NEAREST[:2]
    at = [float(distances([v], 0)[0]) for v in (a, b)]
    lines = [up(1, a, 0, 1), up(1, b, 2, 5)]
    assert rules(*lines, search([(1, b, at[0])], 3, 4)) == set()
    assert rules(*lines, delete(1, 3, 5), search([(1, None, at[0])], 3, 4)) == set()
    assert rules(*lines, search([(1, None, at[0])], 3, 4)) == {"search"}
    assert rules(*lines, search([(1, a, at[1])], 6, 7)) == {"search"}
    assert rules(*lines, search([(1, b, at[0])], 6, 7)) == {"search"}


@pytest.mark.parametrize("seed", range(30))
def test_many_points_at_once_are_what_each_point_alone_says(seed):
    dice, value = random.Random(seed), itertools.count(1)
    lines = []
    for _ in range(120):
        call, key = dice.randint(0, 200), dice.randint(1, 15)
        status = dice.choice(["ok", "ok", "ok", "unknown"])
        lines.append(up(key, next(value), call, call + dice.randint(1, 9), status=status) if dice.random() < 0.8
                     else delete(key, call, call + dice.randint(1, 9), status=status))
    points = points_of(parse(lines)[0])
    crowd, begin, seen = Crowd(points, distances), 0, 0
    while begin < 210e9:
        begin, end = begin + dice.randint(0, 4) * 1e9, begin + dice.randint(4, 9) * 1e9
        last = (dice.choice([20.0, 30.0, 40.0]), 0)
        wanted = {}
        for key, point in points.items():
            values = [value_of(w) for w in point.possible(begin, end)]
            if None not in values and (max(distances(values, seed)), key) < last:
                wanted[key] = sorted(values)
        found = {key: sorted(values) for key, values, _ in crowd.nearer_than(last, begin, end, seed)}
        assert found == wanted
        seen += len(wanted)
    assert seen


def test_equal_distances_go_by_id():
    a, b = NEAREST[:2]
    twice = next((v, w) for v in range(3000) for w in range(v) if distances([v], 1)[0] == distances([w], 1)[0])
    written = [up(1, twice[0], 0, 1), up(2, twice[1], 0, 1)]
    assert rules(*written, search([(1, twice[0])], 2, 3, k=1, query=1)) == set()
    assert rules(*written, search([(2, twice[1])], 2, 3, k=1, query=1)) == {"search"}
    assert a != b


# ---------------------------------------------------------------- errors and gaps

def test_an_error_needs_a_fault_that_allows_it():
    error = up(1, 10, 10, 11, status="unknown", code="UNAVAILABLE")
    assert rules(error) == {"errors"}
    assert rules(error, fault("kill", 9, 10.5)) == set()
    assert rules(error, fault("kill", 1, 5), grace_s=6) == set()
    assert rules(error, fault("kill", 1, 5), grace_s=4) == {"errors"}
    assert rules(error, fault("kill", 12, 15)) == {"errors"}
    assert rules(up(1, 10, 10, 11, status="unknown", code="INTERNAL"), fault("kill", 9, 12)) == {"errors"}


def test_a_time_without_success_is_attributed_to_faults():
    trying = [get(1, None, 0, 1), *(get(1, None, t, t + 1, status="failed", code="UNAVAILABLE") for t in range(1, 30)),
              get(1, None, 30, 31)]
    (kind, begin, end), = windows_without_success(parse(trying)[0], 5e9)
    assert (kind, begin, end) == ("get", 1e9, 31e9)
    assert rules(*trying, fault("cut", 1, 25)) == set()
    assert rules(*trying, fault("cut", 1, 2), fault("kill", 20, 29), grace_s=4) == {"errors", "unavailable"}


def test_silence_because_nobody_asked_is_no_gap():
    assert rules(get(1, None, 0, 1), get(1, None, 50, 51)) == set()


# ---------------------------------------------------------------- the file, the vectors

def test_what_is_recorded_is_read_back(tmp_path):
    recorder = Recorder(tmp_path / "h.jsonl")
    recorder.write(up(1, 10, 0, 1), fault("kill", 0, 1))
    recorder.write(search([(1, 10)], 2, 3))
    recorder.close()
    operations, faults = load(tmp_path / "h.jsonl")
    assert [o.op for o in operations] == ["upsert", "search"] and faults[0].allows == ("UNAVAILABLE",)
    assert list(check(operations, faults)) == []


@pytest.mark.parametrize("line", ['{"op": "upsert"}', "[]", "nonsense",
                                  '{"client":"c","op":"get","call":2,"return":1,"status":"ok"}',
                                  '{"client":"c","op":"get","call":1,"return":2,"status":"perhaps"}'])
def test_a_line_that_is_none_is_refused_by_its_number(line):
    with pytest.raises(ValueError, match="line 1 of the history"):
        parse([line])


def test_vectors_follow_from_numbers_alone():
    assert query_of(3).tobytes() == query_of(3).tobytes() and vectors_of(range(1000)).shape == (1000, DIM)
    assert len({v.tobytes() for v in vectors_of(range(1000))}) == 1000
    assert abs(vectors_of(range(1000))).max() <= 2 and len(set((vectors_of(range(1000)) * 64 % 1).ravel())) == 1
