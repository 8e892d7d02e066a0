#include "books/books.h"

static const struct gy_book *book_in(const struct gy_book *books, size_t count, uint32_t dims, uint32_t bits)
{
    for (size_t i = 0; i < count; i++)
        if (books[i].dims == dims && books[i].bits == bits)
            return &books[i];
    return NULL;
}

const struct gy_book *gy_book_find(enum gy_book_kind kind, uint32_t dims, uint32_t bits)
{
    switch (kind) {
    case GY_BOOK_BLOCK:
        return book_in(gy_books_block, gy_books_block_count, dims, bits);
    case GY_BOOK_SIGN:
        return book_in(gy_books_sign, gy_books_sign_count, dims, bits);
    case GY_BOOK_ADDITIVE:
        return book_in(gy_books_additive, gy_books_additive_count, dims, bits);
    }
    return NULL;
}
