// Objects that are destroyed after main, and per thread: their memory was allocated early and is freed late.
#include "check.h"
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

struct Holder {
    std::map<std::string, std::vector<std::string>> table;
    const char *name;
    explicit Holder(const char *n) : name(n) {
        for (int i = 0; i < 300; i++) table[std::string(n) + std::to_string(i)].assign(std::size_t(i % 9), std::string(std::size_t(i), 'v'));
    }
    ~Holder() {
        for (int i = 0; i < 300; i++) {
            auto &values = table[std::string(name) + std::to_string(i)];
            CHECK(values.size() == std::size_t(i % 9), "%s lost values", name);
            for (auto &value : values) CHECK(value == std::string(std::size_t(i), 'v'), "%s: a value changed", name);
        }
        table["late"].push_back(std::string(50000, 'l'));
    }
};

static Holder global("global");
static std::shared_ptr<Holder> shared = std::make_shared<Holder>("shared");
thread_local std::unique_ptr<Holder> mine;
static std::unique_ptr<Holder> from_thread;

int main() {
    static Holder local("local");
    for (int round = 0; round < 20; round++) {
        std::vector<std::thread> threads;
        for (int t = 0; t < 4; t++)
            threads.emplace_back([t] {
                mine = std::make_unique<Holder>("thread");
                auto kept = shared;
                if (t == 0) from_thread = std::make_unique<Holder>("from a thread");
            });
        for (auto &thread : threads) thread.join();
    }
    mine = std::make_unique<Holder>("main thread");
    puts("ok");
}
