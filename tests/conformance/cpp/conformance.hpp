// What the scenarios in C++ share.

#ifndef CONFORMANCE_HPP
#define CONFORMANCE_HPP

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <sandbox.hpp>

using namespace std::chrono_literals;
using namespace std::string_literals;
using sandbox::output_stream;
namespace fs = std::filesystem;

struct failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Thrown by callbacks, to see that it comes out.
struct own_exception {
    int number;
};

inline void check(bool condition, int line, const char *what) {
    if (!condition)
        throw failure("line " + std::to_string(line) + ": " + what);
}
#define CHECK(condition) check(static_cast<bool>(condition), __LINE__, #condition)

// The error that a call ends with, which is of this class.
template <class Error, class Call> Error fails(int line, Call &&call) {
    try {
        call();
    } catch (const Error &error) {
        return error;
    }
    throw failure("line " + std::to_string(line) + ": nothing was thrown");
}
#define FAILS(type, ...) fails<sandbox::type>(__LINE__, [&] { (void)(__VA_ARGS__); })

inline std::string unique(const std::string &prefix) {
    static std::random_device random;
    char digits[9] = {};
    std::snprintf(digits, sizeof digits, "%08x", static_cast<unsigned>(random()));
    return prefix + "-" + digits;
}

template <class Condition> void await(int line, const char *what, Condition &&condition) {
    for (const auto deadline = std::chrono::steady_clock::now() + 60s; !condition();) {
        if (std::chrono::steady_clock::now() > deadline)
            throw failure("line " + std::to_string(line) + ": not within 60 s: " + what);
        std::this_thread::sleep_for(20ms);
    }
}
#define AWAIT(condition) await(__LINE__, #condition, [&] { return condition; })

inline std::string contents(const fs::path &path) {
    std::ifstream in(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
}

inline void put(const fs::path &path, std::string_view bytes) {
    std::ofstream out(path, std::ios::binary);
    out << bytes;
    if (!out.flush())
        throw failure("can't write " + path.string());
}

// What a program of this machine says.
inline std::string said(const std::string &line) {
    std::string all;
    const std::unique_ptr<FILE, int (*)(FILE *)> pipe(popen(line.c_str(), "r"), pclose);
    std::array<char, 4096> part;
    while (const std::size_t size = std::fread(part.data(), 1, part.size(), pipe.get()))
        all.append(part.data(), size);
    return all;
}

inline std::string noise(std::size_t size) {
    std::mt19937_64 random(size);
    std::string all(size, '\0');
    for (char &byte : all)
        byte = static_cast<char>(random());
    return all;
}

inline std::string every_byte() {
    std::string all;
    for (int byte = 0; byte < 256; byte++)
        all.push_back(static_cast<char>(byte));
    return all;
}

inline std::string hex(const std::array<std::uint8_t, 32> &bytes) {
    std::string all;
    for (const std::uint8_t byte : bytes) {
        char digits[3] = {};
        std::snprintf(digits, sizeof digits, "%02x", byte);
        all += digits;
    }
    return all;
}

inline sandbox::config settings(const std::string &owner) {
    auto config = sandbox::config::from_env();
    config.set_owner(owner).set_lifetime(10min).set_create_timeout(60s).set_command_timeout(60s).set_max_sessions(8);
    return config;
}

class conformance {
public:
    explicit conformance(fs::path directory)
        : directory_(std::move(directory)), owner_(unique("conformance-cpp")), name_(owner_),
          client_(settings(owner_)) {}

    void life();
    void by_name();
    void run();
    void streams();
    void exit_status();
    void timeout();
    void cancel();
    void terminal();
    void detached();
    void ports();
    void bytes();
    void large();
    void files();
    void transfers();
    void trees();
    void errors();
    void file_errors();
    void use_after_close();
    void threads();
    void fork();
    void callback();
    void fleet();
    void pool();
    void settings_();
    void doctor();
    void end();

    int go(const std::vector<std::string> &chosen);

private:
    const sandbox::box &box() const {
        if (!box_)
            throw failure("the sandbox of `life` is not there");
        return **box_;
    }

    fs::path local(const std::string &name) const { return directory_ / name; }

    static bool has(const sandbox::error &error, std::string_view part) {
        return std::string_view(error.what()).find(part) != std::string_view::npos;
    }

    // How many processes of the sandbox have a command line like this.
    int processes(const std::string &pattern) const {
        return std::stoi(box().command("pgrep").add_args({"-c", "-f", pattern}).output().out());
    }

    fs::path directory_;
    std::string owner_;
    std::string name_;
    sandbox::client client_;
    std::optional<sandbox::scoped_box> box_;
};

#endif // CONFORMANCE_HPP
