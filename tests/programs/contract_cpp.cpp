// What the C++ operators promise.
#include "check.h"
#include <limits>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

namespace {

volatile std::size_t impossible_sizes[] = {std::numeric_limits<std::size_t>::max(), std::size_t(PTRDIFF_MAX), std::size_t(PTRDIFF_MAX) - 4096};

bool is_aligned(const void *block, std::size_t alignment) { return (reinterpret_cast<std::uintptr_t>(block) & (alignment - 1)) == 0; }

template <typename Call> bool throws_bad_alloc(Call call) {
    try {
        call();
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

void all_forms() {
    for (std::size_t size : {std::size_t(0), std::size_t(1), std::size_t(24), std::size_t(1000), std::size_t(70000), std::size_t(3000000)}) {
        void *plain = ::operator new(size), *other = ::operator new(size);
        CHECK(plain && other && plain != other, "operator new(%zu)", size);
        CHECK(size < 16 || is_aligned(plain, 16), "operator new(%zu) = %p", size, plain);
        memset(plain, 1, size), memset(other, 2, size);
        ::operator delete(plain, size);
        ::operator delete(other);
        void *array = ::operator new[](size);
        memset(array, 3, size);
        ::operator delete[](array, size);
        array = ::operator new[](size, std::nothrow);
        CHECK(array, "operator new[](nothrow)");
        ::operator delete[](array, std::nothrow);
        plain = ::operator new(size, std::nothrow);
        CHECK(plain, "operator new(nothrow)");
        ::operator delete(plain, std::nothrow);
        for (std::size_t alignment : {std::size_t(1), std::size_t(8), std::size_t(32), std::size_t(64), std::size_t(4096), std::size_t(1) << 20, std::size_t(4) << 20}) {
            auto align = std::align_val_t(alignment);
            void *blocks[4] = {::operator new(size, align), ::operator new[](size, align), ::operator new(size, align, std::nothrow), ::operator new[](size, align, std::nothrow)};
            for (void *block : blocks) {
                CHECK(block && is_aligned(block, alignment), "aligned operator new(%zu, %zu) = %p", size, alignment, block);
                memset(block, 4, size);
            }
            ::operator delete(blocks[0], size, align);
            ::operator delete[](blocks[1], align);
            ::operator delete(blocks[2], align, std::nothrow);
            ::operator delete[](blocks[3], size, align);
        }
    }
    ::operator delete(nullptr);
    ::operator delete[](nullptr);
    ::operator delete(nullptr, std::align_val_t(64));
    // malloc's and new's blocks come from one allocator: some programs free what new returned.
    free(::operator new(100));
    ::operator delete(malloc(100));
}

int handler_calls = 0;

void handler() {
    handler_calls++;
    if (handler_calls >= 3) std::set_new_handler(nullptr);
}

void impossible() {
    for (std::size_t size : impossible_sizes) {
        CHECK(throws_bad_alloc([&] { return ::operator new(size); }), "operator new(%zu) must throw", size);
        CHECK(throws_bad_alloc([&] { return ::operator new[](size); }), "operator new[](%zu) must throw", size);
        CHECK(throws_bad_alloc([&] { return ::operator new(size, std::align_val_t(64)); }), "aligned new(%zu) must throw", size);
        CHECK(throws_bad_alloc([&] { return ::operator new[](size, std::align_val_t(4096)); }), "aligned new[](%zu) must throw", size);
        CHECK(!::operator new(size, std::nothrow), "nothrow new(%zu) must return null", size);
        CHECK(!::operator new[](size, std::nothrow), "nothrow new[](%zu) must return null", size);
        CHECK(!::operator new(size, std::align_val_t(64), std::nothrow), "aligned nothrow new(%zu) must return null", size);
        CHECK(throws_bad_alloc([&] { std::vector<char> v(size / 2 > 0 ? size_t(PTRDIFF_MAX) - 5 : 1); }), "an impossible vector must throw");
        CHECK(throws_bad_alloc([&] { delete[] new long[size / 4]; }), "new long[] with overflow must throw");
    }
    std::set_new_handler(handler);
    CHECK(throws_bad_alloc([] { return ::operator new(impossible_sizes[0]); }), "new with a handler must throw in the end");
    CHECK(handler_calls == 3, "the new-handler was called %d times, not until it gave up (3)", handler_calls);
}

struct alignas(256) Wide {
    char bytes[300];
};

struct PerThread {
    std::vector<std::string> words;
    std::map<int, std::string> table;
    ~PerThread() { words.clear(); }
};
thread_local PerThread per_thread;

void containers() {
    std::vector<std::thread> threads;
    std::vector<std::unique_ptr<Wide>> passed(64);
    for (int t = 0; t < 8; t++)
        threads.emplace_back([t, &passed] {
            for (int i = 0; i < 2000; i++) {
                per_thread.words.push_back(std::string(std::size_t(i % 300), char('a' + t)));
                per_thread.table[i % 500] += "x";
            }
            for (int i = 0; i < 8; i++) {
                passed[std::size_t(t * 8 + i)] = std::make_unique<Wide>();
                CHECK(is_aligned(passed[std::size_t(t * 8 + i)].get(), 256), "make_unique of an over-aligned type");
            }
            for (int i = 0; i < 2000; i++)
                CHECK(per_thread.words[std::size_t(i)] == std::string(std::size_t(i % 300), char('a' + t)), "a string changed");
        });
    for (auto &thread : threads) thread.join();
    passed.clear(); // frees what other, dead threads allocated
    try {
        throw std::string(5000, 'e');
    } catch (const std::string &text) {
        CHECK(text.size() == 5000, "an exception's contents");
    }
}

} // namespace

int main() {
    all_forms();
    containers();
    impossible();
    puts("ok");
}
