/* Stored records: whatever the bytes, the decoders refuse or give a record that is read back the same. */
#include "catalog/records.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void collection(const uint8_t *data, size_t size)
{
    gy_collection_record record = {0}, again = {0};
    gyre_error err;
    if (gy_collection_record_decode(&record, data, size, &err) != GYRE_OK)
        return;
    gy_bytes bytes = {0};
    if (gy_collection_record_encode(&record, &bytes, &err) != GYRE_OK ||
        gy_collection_record_decode(&again, bytes.data, bytes.size, &err) != GYRE_OK ||
        again.id != record.id || again.spec.shards != record.spec.shards || again.codebook_version != record.codebook_version ||
        again.lists != record.lists || again.probe_cost_count != record.probe_cost_count ||
        memcmp(again.probe_costs, record.probe_costs, sizeof record.probe_costs) != 0 ||
        memcmp(again.shards, record.shards, record.spec.shards * sizeof *record.shards) != 0)
        abort();
    gy_bytes_free(&bytes);
    gy_collection_record_fini(&record);
    gy_collection_record_fini(&again);
}

static void cluster(const uint8_t *data, size_t size)
{
    struct gy_cluster_record record, again;
    gyre_error err;
    if (gy_cluster_record_decode(&record, data, size, &err) != GYRE_OK)
        return;
    gy_bytes bytes = {0};
    if (gy_cluster_record_encode(&record, &bytes, &err) != GYRE_OK ||
        gy_cluster_record_decode(&again, bytes.data, bytes.size, &err) != GYRE_OK ||
        memcmp(again.placement_key, record.placement_key, sizeof again.placement_key) != 0 ||
        again.next_collection_id != record.next_collection_id)
        abort();
    gy_bytes_free(&bytes);
}

static void node(const uint8_t *data, size_t size)
{
    struct gy_node_record record, again;
    gyre_error err;
    if (gy_node_record_decode(&record, data, size, &err) != GYRE_OK)
        return;
    gy_bytes bytes = {0};
    if (gy_node_record_encode(&record, &bytes, &err) != GYRE_OK ||
        gy_node_record_decode(&again, bytes.data, bytes.size, &err) != GYRE_OK || again.draining != record.draining ||
        strcmp(again.heir, record.heir) != 0)
        abort();
    gy_bytes_free(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    collection(data, size);
    cluster(data, size);
    node(data, size);
    return 0;
}
