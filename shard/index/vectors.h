/* vectors: full vectors mirrored in an unlinked file that is mapped, so that an exact distance costs a read of memory: the kernel
 * keeps what is hot. A mirror may lack any row, for want of disk or because nobody has read it since the start; RocksDB has it
 * then.
 *
 * A segment has a row for each place of a chunk and belongs to all copies of that chunk, because a place is written once. Rows
 * are as the client gave them and, under cosine, followed by their norm, so that ranking sums it no more.
 * Threads  any; a row is written by the first who claims it, and seen when it is whole */
#ifndef GY_VECTORS_H
#define GY_VECTORS_H

#include "gyre/metric.h"

typedef struct gy_vectors gy_vectors;
typedef struct gy_segment gy_segment;

/* A mirror in a directory whose file system need not be fit for it: then it stays empty. A crash leaves nothing behind. */
GYRE_CHECKED gyre_status gy_vectors_new(gy_vectors **out, const char *directory, gyre_metric metric, uint32_t dim,
                                        gyre_error *err);
/* After the last segment was released. */
void gy_vectors_free(gy_vectors *vectors);
/* Says that it is freed next: segments released from now on are not made ready for others. */
void gy_vectors_retire(gy_vectors *vectors);
/* While the disk has less free, no further segment gets room. */
void gy_vectors_limit_disk(gy_vectors *vectors, uint64_t free_min);
/* Disk that the mirror has claimed. */
uint64_t gy_vectors_disk_bytes(gy_vectors *vectors);

/* One reference; its room on disk is claimed with the first row. NULL without memory, and for a mirror that there is not. */
gy_segment *gy_segment_new(gy_vectors *vectors);
/* NULL holds nothing, releases nothing, has no row and takes none. */
gy_segment *gy_segment_hold(gy_segment *segment);
void gy_segment_release(gy_segment *segment);
/* As allocated, beside the file. */
size_t gy_segment_bytes(void);

/* Whether rows can be put, as the last one to put some found. */
bool gy_segment_has_room(const gy_segment *segment);

/* Mirrors a row [dim] of a place below GY_CHUNK_ROWS, unless somebody did or does, or there is no room. */
void gy_segment_put(gy_segment *segment, size_t place, const float *vector);
/* The row [dim] of a place, valid while the segment is held; NULL if it is not mirrored. */
const float *gy_segment_row(const gy_segment *segment, size_t place);
/* The same bits as gyre_distance of the vector. query through gyre_vector_normalize. */
float gy_vectors_distance(const gy_vectors *vectors, const float *row, const float *query);
/* Copies the mirrored row of a place to a place of another segment; does nothing where there is none. */
void gy_segment_copy(gy_segment *to, size_t to_place, const gy_segment *from, size_t from_place);

#endif
