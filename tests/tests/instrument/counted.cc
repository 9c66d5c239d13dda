// `counted MODE N`: does N of one thing, and what each mode does besides does not depend on N.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <vector>

#define APART __attribute__((noinline)) static

// A load and a store of eight bytes; every hundredth throws.
APART long vector_step(long *all, long i)
{
    volatile long *at = all + i % 64;
    *at = *at + 1;
    if (i % 100 == 0)
        throw 7;
    return 0;
}

APART void fill_map(std::map<long, long> &all, long n)
{
    for (long i = 0; i < n; i++)
        all[i * 7919 % 1000003] = i;
}

// More memory than there is, asked for in both ways.
APART void impossible()
{
    volatile std::size_t much = std::size_t(1) << 62;
    const char *thrown = "nothing";
    try {
        std::unique_ptr<char[]> block(new char[much]);
        std::printf("%p", static_cast<void *>(block.get()));
    } catch (const std::bad_alloc &) {
        thrown = "bad_alloc";
    }
    static char *volatile block;
    block = new (std::nothrow) char[much];
    std::fprintf(stderr, "%s, %s\n", thrown, block == nullptr ? "null" : "a block");
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    long n = std::atol(argv[2]);
    std::vector<long> numbers(64);
    std::map<long, long> map;
    if (std::strcmp(argv[1], "vector") == 0) {
        for (long i = 0; i < n; i++) {
            try {
                vector_step(numbers.data(), i);
            } catch (int) {
                continue;
            }
        }
    } else if (std::strcmp(argv[1], "map") == 0) {
        fill_map(map, n);
    } else if (std::strcmp(argv[1], "impossible") == 0) {
        impossible();
    }
    return map.size() == 77;
}
