// The scenarios of scenarios.md in C++17. The arguments are an empty directory, and the scenarios to run beside `life`.

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

namespace {

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

void check(bool condition, int line, const char *what) {
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

std::string unique(const std::string &prefix) {
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

std::string contents(const fs::path &path) {
    std::ifstream in(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
}

void put(const fs::path &path, std::string_view bytes) {
    std::ofstream out(path, std::ios::binary);
    out << bytes;
    if (!out.flush())
        throw failure("can't write " + path.string());
}

// What a program of this machine says.
std::string said(const std::string &line) {
    std::string all;
    const std::unique_ptr<FILE, int (*)(FILE *)> pipe(popen(line.c_str(), "r"), pclose);
    std::array<char, 4096> part;
    while (const std::size_t size = std::fread(part.data(), 1, part.size(), pipe.get()))
        all.append(part.data(), size);
    return all;
}

std::string noise(std::size_t size) {
    std::mt19937_64 random(size);
    std::string all(size, '\0');
    for (char &byte : all)
        byte = static_cast<char>(random());
    return all;
}

std::string every_byte() {
    std::string all;
    for (int byte = 0; byte < 256; byte++)
        all.push_back(static_cast<char>(byte));
    return all;
}

std::string hex(const std::array<std::uint8_t, 32> &bytes) {
    std::string all;
    for (const std::uint8_t byte : bytes) {
        char digits[3] = {};
        std::snprintf(digits, sizeof digits, "%02x", byte);
        all += digits;
    }
    return all;
}

sandbox::config settings(const std::string &owner) {
    auto config = sandbox::config::from_env();
    config.set_owner(owner).set_lifetime(10min).set_create_timeout(60s).set_command_timeout(60s).set_max_sessions(8);
    return config;
}

class conformance {
public:
    explicit conformance(fs::path directory)
        : directory_(std::move(directory)), owner_(unique("conformance-cpp")), name_(owner_),
          client_(settings(owner_)) {}

    void life() {
        sandbox::spec spec;
        spec.set_name(name_).set_label("team", "blue").set_env("GREETING", "hello");
        box_.emplace(client_.create(spec));
        // Commands run before the kubelet says so, and before the host key is noted.
        AWAIT(box().info().phase() == sandbox::phase::running && box().info().pod_ip() && box().info().host_key());
        const auto info = box().info();
        CHECK(box().name() == name_ && info.name() == name_);
        CHECK(!box().uid().empty() && info.uid() == box().uid());
        CHECK(info.label("team") == "blue" && info.labels().at("team") == "blue" && !info.label("no-such"));
        CHECK(info.owner() == owner_ && !info.image().empty() && info.node());
        CHECK(info.namespace_name() == client_.namespace_name());
        CHECK(info.created_at() && info.expires_at() && *info.created_at() < *info.expires_at());
        CHECK(info.ssh_user() == "sandbox" && info.ssh_port() == box().ssh_port() &&
              info.host_key() == box().host_key());
        CHECK(!info.verdict());
        const auto all = client_.list();
        CHECK(std::any_of(all.begin(), all.end(), [&](const auto &one) { return one.uid() == info.uid(); }));
        CHECK(box().execute("uname -n").out() == name_ + "\n");
        CHECK(box().execute("printf %s \"$GREETING\"").out() == "hello");

        const sandbox::client second(settings(owner_));
        const auto attached = second.attach(name_);
        CHECK(attached.uid() == box().uid() && !attached.timings());
        CHECK(attached.execute("echo here").check().out() == "here\n");
        const auto expiry = attached.renew(20min);
        CHECK(expiry > *info.expires_at() && box().info().expires_at() == expiry);
        const auto timings = box().timings();
        CHECK(timings && timings->accepted > 0s && timings->accepted <= timings->started);
        CHECK(timings->started <= timings->logged_in && timings->logged_in < 60s);
        CHECK(client_.api_requests() > 0);
    }

    void by_name() {
        CHECK(client_.execute_command(name_, "echo $((6 * 7))").out() == "42\n");
        put(local("up"), "by name");
        CHECK(client_.upload_file(name_, local("up"), "by-name") == 7);
        CHECK(client_.download_file(name_, "by-name", local("down")) == 7 && contents(local("down")) == "by name");
        CHECK(client_.get_sandbox_info(name_).uid() == box().uid());
        CHECK(client_.ssh_port(name_) == box().ssh_port() && box().ssh_port() == 2222);
        const sandbox::scoped_box other(client_.create());
        client_.shutdown_sandbox(other->name());
        FAILS(not_found_error, client_.get_sandbox_info(other->name()));
        FAILS(not_found_error, client_.delete_sandbox("no-such-sandbox"));
    }

    void run() {
        const std::vector<std::string> arguments{"",   "two words", "'\"$HOME`\\*", "a\nb\n", "\xff\xfe\x80",
                                                 "-n", "g\xc3\xbcn"};
        std::string expected;
        for (const auto &argument : arguments)
            expected += argument + '|';
        auto echo = box().command("printf");
        echo.add_arg("%s|").add_args(arguments);
        CHECK(echo.output().check().out() == expected);
        CHECK(echo.output().out() == expected);
        auto line = box().shell("echo $1 \"$2\" \"$A\" \"$PWD\" $(id -un) | tr a-z A-Z");
        line.add_args({"x", "y  z"}).set_env("A", "b\xc3\xbc'").set_current_dir("/usr/lib").set_user("sandbox");
        CHECK(line.output().check().out() == "X Y  Z B\xc3\xbc' /USR/LIB SANDBOX\n");
        CHECK(box().command("pwd").set_current_dir("..").output().out() == "/home\n");
    }

    void streams() {
        const auto child = box().command("cat").spawn();
        CHECK(!child.id().empty() && !child.try_wait());
        for (int round = 0; round < 5; round++) {
            std::string line;
            child.in() << "line " << round << '\n' << std::flush;
            CHECK(std::getline(child.out(), line) && line == "line " + std::to_string(round));
        }
        child.write_stdin("tail");
        std::array<char, 3> some;
        std::string rest;
        CHECK(child.read_stdout(sandbox::buffer_view(some.data(), 0)) == 0);
        child.close_stdin();
        while (const std::size_t size = child.read_stdout(some))
            rest.append(some.data(), size);
        CHECK(rest == "tail" && child.wait().success() && child.wait().exit_code() == 0 && child.try_wait()->success());
        FAILS(closed_error, child.in() << "too late");
        CHECK(child.in().bad());

        const auto both = box().shell("echo out; echo err >&2").output();
        CHECK(both.out() == "out\n" && both.err() == "err\n" && both.truncated() == 0);
        const auto talks = box().shell("echo one >&2; echo two").spawn();
        std::string word;
        CHECK(talks.err() >> word && word == "one");
        CHECK(talks.wait_with_output().out() == "two\n");
        std::string merged;
        for (int count = 0; count < 50; count++)
            merged += "o\ne\n";
        auto command = box().shell("i=0; while [ $i -lt 50 ]; do echo o; echo e >&2; i=$((i + 1)); done");
        CHECK(command.merge_stderr().output().out() == merged);

        // In which order the two streams are handed over is nobody's promise.
        std::string out, err;
        auto waits = box().shell("echo first; while [ ! -e go ]; do sleep 0.05; done; echo second; echo third >&2");
        const auto status = waits.set_timeout(60s).stream([&](output_stream stream, std::string_view data) {
            (stream == output_stream::err ? err : out) += data;
            if (out == "first\n")
                box().write_file("go", "");
        });
        CHECK(status.success() && out == "first\nsecond\n" && err == "third\n");

        auto silent = box().shell("echo out; echo err >&2");
        CHECK(silent.discard_stdout().output().out().empty() && silent.output().err() == "err\n");
        CHECK(silent.discard_stderr().output().err().empty());
        CHECK(box().shell("echo thrown away").status().success());
        const auto ignored = box().shell("head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2; exit 3").spawn();
        ignored.close_stdout();
        ignored.close_stderr();
        CHECK(ignored.wait().exit_code() == 3);
    }

    void exit_status() {
        for (const int code : {0, 3, 255}) {
            const auto output = box().execute("exit " + std::to_string(code));
            CHECK(output.exit_code() == code && output.success() == (code == 0) && !output.signal());
        }
        const auto killed = box().execute("kill -KILL $$");
        CHECK(killed.signal() == "KILL" && !killed.exit_code() && !killed.success());
        const auto status = box().shell("kill -KILL $$").status();
        CHECK(status.signal() == "KILL" && !status.exit_code() && !status.success());
        const auto error = FAILS(command_failed_error, box().execute("echo partial; echo why >&2; exit 7").check());
        CHECK(has(error, "7") && has(error, "why") && error.out() == "partial\n" && error.err() == "why\n");
        CHECK(box().execute("true").check().success());
        FAILS(command_error, box().command("no-such-program").output());
        FAILS(command_error, box().command("no-such-program").spawn().wait());
    }

    void timeout() {
        const auto began = std::chrono::steady_clock::now();
        auto sleeper = box().shell("echo before; exec sleep 60.11");
        const auto error = FAILS(timed_out_error, sleeper.set_timeout(4s).output());
        CHECK(std::chrono::steady_clock::now() - began < 30s);
        CHECK(error.kind() == sandbox::error_kind::timed_out && error.out() == "before\n" && error.err() == "");
        CHECK(processes("sleep 60[.]11") == 0);
        FAILS(invalid_argument_error, sleeper.set_timeout(-1s));
        CHECK(box().command("true").set_timeout(std::nullopt).status().success());
    }

    void cancel() {
        const auto child = box().shell("echo ready; exec sleep 60.22").spawn();
        std::string line;
        CHECK(std::getline(child.out(), line) && line == "ready");
        const auto began = std::chrono::steady_clock::now();
        std::thread other([&] { child.kill(); });
        const auto status = child.wait();
        other.join();
        CHECK(status.signal() == "KILL" && std::chrono::steady_clock::now() - began < 30s);
        CHECK(processes("sleep 60[.]22") == 0);
        const auto polite = box().shell("trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done").spawn();
        CHECK(std::getline(polite.out(), line) && line == "ready");
        FAILS(invalid_argument_error, polite.signal("NO-SUCH"));
        polite.signal("TERM");
        CHECK(polite.wait().exit_code() == 9);
        {
            const sandbox::on_wait interrupt([this] { return processes("sleep 60[.]55") == 1; });
            FAILS(cancelled_error, box().command("sleep").add_arg("60.55").output());
        }
        CHECK(processes("sleep 60[.]55") == 0);
    }

    void terminal() {
        auto command = box().shell("stty size; while [ \"$(stty size)\" = '30 100' ]; do sleep 0.05; done; stty size");
        const auto child = command.set_terminal("xterm-256color", 100, 30).set_timeout(60s).spawn();
        std::string line;
        CHECK(std::getline(child.out(), line) && line == "30 100\r");
        child.resize(120, 40);
        CHECK(std::getline(child.out(), line) && line == "40 120\r");
        CHECK(child.wait().success());
    }

    void detached() {
        const auto key = unique("key");
        auto command = box().shell("echo run >> count; while [ ! -e go-" + key +
                                   " ]; do sleep 0.05; done; echo out; echo err >&2; exit 3");
        const auto first = command.detach(key);
        const auto again = command.detach(key);
        CHECK(first.key() == key && again.key() == key && !first.try_wait());
        FAILS(timed_out_error, first.wait(200ms));
        FAILS(conflict_error, first.remove());
        FAILS(conflict_error, box().shell("echo another").detach(key));
        CHECK(first.read(output_stream::out, 0, 100).empty());
        box().write_file("go-" + key, "");

        const sandbox::client other(settings(owner_));
        const auto found = other.attach(name_).detached(key);
        std::string out, err;
        sandbox::stream_positions positions;
        const auto status = found.stream(positions, [&](output_stream stream, std::string_view data) {
            (stream == output_stream::out ? out : err) += data;
        });
        CHECK(status.exit_code() == 3 && out == "out\n" && err == "err\n" && positions.out == 4 && positions.err == 4);
        CHECK(found.wait().exit_code() == 3 && found.try_wait()->exit_code() == 3);
        CHECK(found.read(output_stream::out, 1, 100) == "ut\n" && found.read(output_stream::err, 0, 2) == "er");
        CHECK(found.read<std::vector<std::byte>>(output_stream::out, 4, 100).empty());
        try {
            found.stream([](output_stream, std::string_view) { throw own_exception{1}; });
            CHECK(false);
        } catch (const own_exception &) {
        }
        FAILS(cancelled_error, found.stream([](output_stream, std::string_view) { return false; }));
        CHECK(box().read_file("count") == "run\n");
        found.remove();
        FAILS(detached_not_found_error, first.try_wait());

        const auto endless = box().command("sleep").add_arg("60.33").detach(unique("key"));
        endless.signal("CONT");
        endless.kill();
        CHECK(!endless.wait(60s).success() && processes("sleep 60[.]33") == 0);
        endless.remove();
        FAILS(detached_not_found_error, endless.read(output_stream::out, 0, 1));
        FAILS(invalid_argument_error, box().detached("no key"));
    }

    void ports() {
        const std::string server = "import socketserver as s, threading as t\n"
                                   "class H(s.StreamRequestHandler):\n"
                                   "    def handle(self): self.wfile.write(self.rfile.read()[::-1])\n"
                                   "u = s.ThreadingUnixStreamServer('/tmp/reverser', H)\n"
                                   "t.Thread(target=u.serve_forever, daemon=True).start()\n"
                                   "s.ThreadingTCPServer(('127.0.0.1', 7300), H).serve_forever()\n";
        const auto is_reversed = [](const sandbox::descriptor &connection) {
            const std::string text = "desserts";
            CHECK(send(connection.get(), text.data(), text.size(), 0) == 8);
            CHECK(shutdown(connection.get(), SHUT_WR) == 0);
            std::array<char, 64> answer;
            std::string all;
            for (ssize_t size; (size = recv(connection.get(), answer.data(), answer.size(), 0)) != 0;) {
                CHECK(size > 0);
                all.append(answer.data(), static_cast<std::size_t>(size));
            }
            CHECK(all == "stressed");
        };
        const auto connected = [](std::uint16_t port) {
            sandbox::descriptor own(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
            sockaddr_in address = {};
            address.sin_family = AF_INET;
            address.sin_port = htons(port);
            address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            const int result = ::connect(own.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address);
            return result == 0 ? std::move(own) : sandbox::descriptor(-1);
        };
        FAILS(timed_out_error, box().wait_for_port(7300, 50ms));
        FAILS(refused_error, box().connect(7300));
        const auto reverser = box().command("python3").add_args({"-c", server}).detach(unique("reverser"));
        box().wait_for_port(7300, 60s);
        box().wait_for_port("/tmp/reverser");
        is_reversed(box().connect(7300));
        is_reversed(box().connect("/tmp/reverser"));
        FAILS(file_not_found_error, box().connect("/no/such/socket"));

        const auto forward = box().forward(0, 7300);
        CHECK(forward.local() == "127.0.0.1:" + std::to_string(forward.port()));
        const auto open = connected(forward.port());
        is_reversed(connected(forward.port()));
        CHECK(open.get() >= 0 && forward.is_open() && forward.connections() >= 1 && !forward.last_failure());
        FAILS(busy_error, box().forward(forward.port(), 7300));
        const auto to_nobody = box().forward("127.0.0.1:0", "7301");
        char byte = 0;
        CHECK(recv(connected(to_nobody.port()).get(), &byte, 1, 0) == -1 && errno == ECONNRESET);
        CHECK(to_nobody.last_failure()->kind() == sandbox::error_kind::refused);
        forward.close();
        forward.wait();
        CHECK(!forward.is_open() && connected(forward.port()).get() == -1);
        reverser.kill();
        reverser.remove();
    }

    void bytes() {
        const auto all = every_byte();
        CHECK(box().command("cat").set_stdin(all).output().out() == all);
        CHECK(box().command("cat").set_stdin(std::vector<std::uint8_t>(all.begin(), all.end())).output().out() == all);
        CHECK(box().command("cat").set_stdin("").output().out().empty());
        CHECK(box().command("cat").set_stdin("a\0b").output().out() == "a\0b"s);
        char array[] = {'a', '\0', 'b', '\0'};
        const char no_text[] = {'a', 'b'};
        CHECK(box().command("cat").set_stdin(array).output().out() == "a\0b\0"s);
        CHECK(box().command("cat").set_stdin(no_text).output().out() == "ab");
        CHECK(box().command("cat").output().out().empty());
        std::istringstream in(all);
        CHECK(box().command("cat").set_stdin(in).output().out() == all);
        in.setstate(std::ios_base::failbit);
        FAILS(invalid_argument_error, box().command("cat").set_stdin(in));

        put(local("input"), all);
        const int fd = open(local("input").c_str(), O_RDONLY | O_CLOEXEC);
        auto cat = box().command("cat");
        cat.set_stdin_fd(fd);
        close(fd);
        CHECK(cat.output().out() == all);
        FAILS(invalid_argument_error, cat.output());
        FAILS(invalid_argument_error, cat.set_stdin_fd(-1));

        FAILS(invalid_argument_error, box().command("echo").add_arg("a\0b"s).output());
        FAILS(invalid_argument_error, box().execute("echo a\0b"s));
        FAILS(invalid_argument_error, box().command("echo").set_env("A", "a\0b"s));
        FAILS(invalid_argument_error, box().read_file("a\0b"s));
        FAILS(invalid_argument_error, box().command("echo").add_arg(static_cast<const char *>(nullptr)));
        FAILS(invalid_argument_error, client_.attach("\xff"));
    }

    void large() {
        const auto input = noise(16 << 20);
        put(local("large"), input);
        const auto sum = said("sha256sum < '" + local("large").string() + "'");
        CHECK(sum.size() == 68 && box().command("sha256sum").set_stdin(input).output().check().out() == sum);
        CHECK(box().command("cat").set_stdin(input).output().out() == input);
        const auto limited = box().command("cat").set_stdin(input).set_output_limit(1000).output();
        CHECK(limited.out() == input.substr(0, 1000) && limited.truncated() == input.size() - 1000);
    }

    void files() {
        box().create_dir_all("files/a/b");
        box().create_dir("files/c");
        const auto all = every_byte();
        box().write_file("files/whole", all);
        CHECK(box().read_file("files/whole") == all);
        const auto as_bytes = box().read_file<std::vector<std::byte>>("files/whole");
        CHECK(as_bytes.size() == 256 && as_bytes[255] == std::byte{255});
        box().append_file("files/whole", as_bytes);
        box().append_file("files/new", "appended");
        CHECK(box().read_file("files/whole") == all + all && box().read_file("files/new") == "appended");
        box().write_file("files/empty", {});
        CHECK(box().read_file("files/empty").empty());

        using sandbox::open_mode;
        const auto file =
            box().open_file("files/open", open_mode::read | open_mode::write | open_mode::create_new, fs::perms(0600));
        file.write("hello, world");
        CHECK(file.seek(-5, sandbox::seek_from::end) == 7);
        std::array<std::byte, 64> buffer;
        CHECK(file.read(sandbox::buffer_view(buffer.data(), 0)) == 0);
        CHECK(file.read(buffer) == 5 && buffer[0] == std::byte{'w'} && file.read(buffer) == 0);
        CHECK(file.seek(1) == 1 && file.seek(1, sandbox::seek_from::current) == 2);
        file.write(std::array{std::byte{'L'}});
        file.set_size(5);
        file.set_permissions(fs::perms(0640));
        file.sync();
        CHECK(file.metadata().size == 5 && file.metadata().permissions == fs::perms(0640));
        file.close();
        CHECK(box().read_file("files/open") == "heLlo");
        FAILS(closed_error, file.close());
        FAILS(file_exists_error, box().open_file("files/open", open_mode::write | open_mode::create_new));

        const auto metadata = box().file_metadata("files/open");
        const auto now = std::chrono::system_clock::now();
        CHECK(metadata.kind == sandbox::file_kind::file && metadata.size == 5 &&
              metadata.permissions == fs::perms(0640));
        CHECK(metadata.modified && *metadata.modified > now - 5min && *metadata.modified < now + 5min &&
              metadata.accessed);
        box().set_file_permissions("files/open", fs::perms(0755));
        CHECK(box().file_metadata("files/open").permissions == fs::perms(0755));

        box().create_symlink("whole", "files/link");
        CHECK(box().read_link("files/link") == "whole" && box().file_metadata("files/link").size == 512);
        CHECK(box().symlink_metadata("files/link").kind == sandbox::file_kind::symlink);
        CHECK(box().resolve_path("files/a/../link") == "/home/sandbox/files/whole");
        std::set<std::string> names;
        for (const auto &entry : box().read_dir("files")) {
            CHECK((entry.name == "link") == (entry.metadata.kind == sandbox::file_kind::symlink));
            names.insert(entry.name);
        }
        CHECK((names == std::set<std::string>{"a", "c", "whole", "new", "empty", "open", "link"}));
        box().rename_file("files/new", "files/open");
        CHECK(box().read_file("files/open") == "appended" && !box().file_exists("files/new"));
        box().remove_dir("files/c");
        box().remove_file("files/link");
        CHECK(box().file_exists("files/whole") && !box().file_exists("files/link") && !box().file_exists("files/c"));
        FAILS(directory_not_empty_error, box().remove_dir("files"));
        box().remove_dir_all("files");
        CHECK(!box().file_exists("files"));
    }

    void transfers() {
        const auto all = noise(12 << 20);
        put(local("source"), all);
        auto careful = box().transfer();
        careful.set_checksum().set_sync();
        std::vector<sandbox::progress> steps;
        const auto note = [&](const sandbox::progress &now) { steps.push_back(now); };
        const auto rises = [&] {
            const auto is_before = [](const auto &one, const auto &other) { return one.done < other.done; };
            return std::is_sorted(steps.begin(), steps.end(), is_before) && steps.back().done == all.size() &&
                   steps.back().total == all.size();
        };
        const auto up = careful.upload(local("source"), "moved", note);
        CHECK(up.bytes == all.size() && up.resumed == 0 && rises());
        CHECK(up.sha256 && box().execute("sha256sum < moved").out() == hex(*up.sha256) + "  -\n");
        steps.clear();
        const auto down = careful.download("moved", local("back"), note);
        CHECK(down.bytes == all.size() && down.sha256 == up.sha256 && rises() && contents(local("back")) == all);
        CHECK(box().upload_file(local("source"), "plain") == all.size());
        CHECK(box().download_file("plain", local("back")) == all.size() && contents(local("back")) == all);

        const auto plain = box().transfer();
        std::ifstream in(local("source"), std::ios::binary);
        CHECK(plain.upload_from(in, "from").bytes == all.size());
        std::ostringstream out;
        CHECK(plain.download_to("from", out).bytes == all.size() && out.str() == all);
        std::size_t given = 0;
        const auto reader = [&](char *buffer, std::size_t capacity) {
            const std::size_t size = all.copy(buffer, capacity, given);
            given += size;
            return size;
        };
        CHECK(plain.upload_from(reader, "from", note).bytes == all.size() && given == all.size());
        std::string taken;
        CHECK(plain.download_to(
                       "from", [&](std::string_view data) { taken += data; }, note)
                      .bytes == all.size() &&
              taken == all);
        std::ifstream missing(local("no-such-file"));
        FAILS(invalid_argument_error, plain.upload_from(missing, "missing"));
        CHECK(!box().file_exists("missing"));
        std::ofstream full("/dev/full");
        FAILS(cancelled_error, plain.download_to("from", full));

        auto resuming = box().transfer();
        resuming.set_resume();
        const auto half = [&](const sandbox::progress &now) { return now.done == 0; };
        FAILS(cancelled_error, resuming.upload(local("source"), "resumed", half));
        CHECK(!box().file_exists("resumed"));
        CHECK(resuming.upload(local("source"), "resumed").resumed > 0 && box().read_file("resumed") == all);
        FAILS(cancelled_error, resuming.download("resumed", local("resumed"), half));
        CHECK(!fs::exists(local("resumed")));
        CHECK(resuming.download("resumed", local("resumed")).resumed > 0 && contents(local("resumed")) == all);
        FAILS(transfer_error, box().transfer().set_max_bytes(1000).download("moved", local("limited")));
        CHECK(!fs::exists(local("limited")));
        box().execute("rm moved plain from resumed").check();
    }

    void trees() {
        const auto tree = local("tree");
        fs::create_directories(tree / "empty");
        fs::create_directories(tree / "deep/er");
        put(tree / "deep/er/file", "contents");
        put(tree / "run", "#!/bin/sh\necho ran\n");
        fs::permissions(tree / "run", fs::perms(0755));
        fs::create_symlink("deep/er/file", tree / "link");
        CHECK(mkfifo((tree / "fifo").c_str(), 0600) == 0);
        std::uint64_t done = 0;
        const auto up =
            box().transfer().upload_dir(tree, "tree", [&](const sandbox::progress &now) { done = now.done; });
        CHECK(up.files == 2 && up.directories == 4 && up.symlinks == 1 && up.bytes == 27 && up.skipped == 1 &&
              done == 27);
        CHECK(up.notes.size() == 1 && up.notes[0].path == "fifo" && !up.notes[0].text.empty());
        CHECK(box().execute("tree/run").out() == "ran\n" && box().read_file("tree/link") == "contents");

        const auto down = box().transfer().set_checksum().download_dir("tree", local("tree-back"));
        CHECK(down.files == 2 && down.directories == 4 && down.symlinks == 1 && down.bytes == 27 && down.skipped == 0);
        fs::remove(tree / "fifo");
        CHECK(said("diff -r --no-dereference '" + tree.string() + "' '" + local("tree-back").string() +
                   "' && echo same") == "same\n");
        CHECK((fs::status(local("tree-back") / "run").permissions() & fs::perms::owner_exec) != fs::perms::none);
        FAILS(transfer_error, box().transfer().set_max_entries(3).download_dir("tree", local("few")));
    }

    void errors() {
        const auto is = [&](const sandbox::error &error, sandbox::error_kind kind) {
            return error.kind() == kind && !error.operation().empty() && error.sandbox_name() == name_;
        };
        using kind = sandbox::error_kind;
        FAILS(invalid_argument_error, box().command("true").set_output_limit(1).set_stdin_fd(-1));
        FAILS(config_error, sandbox::config().set("no_such_setting", "1"));
        const auto missing = FAILS(not_found_error, client_.attach("no-such-sandbox"));
        CHECK(missing.sandbox_name() == "no-such-sandbox" && !missing.code());
        CHECK(is(FAILS(file_not_found_error, box().read_file("no-such-file")), kind::file_not_found));
        const auto taken = FAILS(conflict_error, client_.create(sandbox::spec().set_name(name_)));
        CHECK(taken.sandbox_name() == name_ && taken.http_status() == 409);
        box().create_dir("there");
        CHECK(is(FAILS(file_exists_error, box().create_dir("there")), kind::file_exists));
        const auto denied = FAILS(permission_denied_error, box().write_file("/etc/denied", "x"));
        CHECK(is(denied, kind::permission_denied) && denied.code() == std::errc::permission_denied && !denied.is_retryable());
        CHECK(is(FAILS(timed_out_error, box().command("sleep").add_arg("60").set_timeout(300ms).status()),
                 kind::timed_out));
        CHECK(is(FAILS(command_error, box().command("/etc/passwd").status()), kind::command));

        const auto pull = FAILS(create_error, client_.create(sandbox::spec().set_image("localhost/no-such-image:1")));
        CHECK(pull.verdict() && pull.verdict()->cause == sandbox::cause::image_pull && pull.sandbox_name());
        CHECK(!pull.verdict()->reason.empty() && !pull.verdict()->message.empty() && !pull.out() && !pull.err());

        // Nothing listens on port 1 of the loopback.
        put(local("kubeconfig"),
            "apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\n"
            "users: [{name: a, user: {}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n"
            "current-context: a\n");
        const sandbox::client nowhere(sandbox::config().set_kubeconfig(local("kubeconfig")));
        CHECK(FAILS(unavailable_error, nowhere.list()).is_retryable());

        // Every kind of the library has a class here that is caught, and a name.
        const auto kinds = sandbox::error_kinds();
        CHECK(kinds.size() == 34);
        for (const kind one : kinds)
            CHECK(sandbox::status_name(one).substr(0, 8) == "SBX_ERR_");
        CHECK(sandbox::status_name(kind::delete_failed) == "SBX_ERR_DELETE" &&
              sandbox::status_name(kind{12345}).empty());
        static_assert(std::is_base_of_v<std::runtime_error, sandbox::error>);
        static_assert(std::is_base_of_v<sandbox::ssh_error, sandbox::host_key_mismatch_error>);
        static_assert(std::is_nothrow_copy_constructible_v<sandbox::error>);
        try {
            (void)client_.attach("no-such-sandbox");
        } catch (const std::exception &error) {
            CHECK(std::string(error.what()).find("no-such-sandbox") != std::string::npos);
        }
    }

    void file_errors() {
        box().create_dir_all("errors/dir");
        box().write_file("errors/file", "x");
        box().execute("cp \"$(command -v sleep)\" errors/program").check();
        auto running = box().command("./errors/program").add_arg("6793").spawn();
        AWAIT(processes("errors/progra[m] 6793") > 0);
        put(local("plain"), "x");
        const auto is = [&](const sandbox::error &error, std::errc code) {
            CHECK(error.code() == code && error.sandbox_name() == name_ && !error.operation().empty());
        };
        is(FAILS(file_not_found_error, box().read_file("no-such-file")), std::errc::no_such_file_or_directory);
        is(FAILS(file_exists_error, box().create_dir("/tmp")), std::errc::file_exists);
        is(FAILS(is_a_directory_error, box().read_file("/tmp")), std::errc::is_a_directory);
        is(FAILS(is_a_directory_error, box().remove_file("errors/dir")), std::errc::is_a_directory);
        is(FAILS(not_a_directory_error, box().read_dir("errors/file")), std::errc::not_a_directory);
        is(FAILS(not_a_directory_error, box().file_metadata("errors/file/x")), std::errc::not_a_directory);
        is(FAILS(directory_not_empty_error, box().remove_dir("errors")), std::errc::directory_not_empty);
        is(FAILS(read_only_error, box().create_dir("/sys/x")), std::errc::read_only_file_system);
        is(FAILS(busy_error, box().append_file("errors/program", "x")), std::errc::text_file_busy);
        is(FAILS(name_too_long_error, box().create_dir(std::string(256, 'n'))), std::errc::filename_too_long);
        is(FAILS(transfer_error, box().rename_file("errors/file", "/dev/shm/file")), std::errc::cross_device_link);
        is(FAILS(file_not_found_error, box().upload_file("nor-here", "x")), std::errc::no_such_file_or_directory);
        is(FAILS(is_a_directory_error, box().upload_file(local(""), "x")), std::errc::is_a_directory);
        is(FAILS(not_a_directory_error, box().download_file("errors/file", local("plain") / "below")),
           std::errc::not_a_directory);
        CHECK(!box().file_exists("errors/file/x") && box().file_exists("errors/file"));
        is(FAILS(command_error, box().command("no-such-program").status()), std::errc::no_such_file_or_directory);
        running.kill();
        running.wait();
        box().remove_dir_all("errors");
    }

    void use_after_close() {
        auto client = sandbox::client(settings(owner_));
        auto kept = client.attach(name_);
        auto command = kept.command("true");
        auto child = command.spawn();
        auto output = kept.execute("true");
        auto file = kept.open_file("/etc/passwd");
        auto transfer = kept.transfer();
        auto detached = kept.detached("key");
        auto info = kept.info();
        sandbox::config config;
        sandbox::spec spec;
        const auto is_gone = [](auto &handle, int line, auto &&use) {
            using type = std::remove_reference_t<decltype(handle)>;
            static_assert(!std::is_copy_constructible_v<type> && !std::is_copy_assignable_v<type>);
            static_assert(std::is_nothrow_move_constructible_v<type> && std::is_nothrow_move_assignable_v<type>);
            CHECK(handle);
            type taken(std::move(handle));
            CHECK(taken && !handle);
            fails<sandbox::closed_error>(line, use);
            fails<sandbox::closed_error>(line, use);
            handle = std::move(taken);
            CHECK(handle && !taken);
            taken = type(std::move(taken));
            handle = type(std::move(taken));
            fails<sandbox::closed_error>(line, use);
        };
        is_gone(client, __LINE__, [&] { (void)client.list(); });
        is_gone(command, __LINE__, [&] { (void)command.add_arg("x"); });
        is_gone(output, __LINE__, [&] { (void)output.out(); });
        is_gone(child, __LINE__, [&] { child.out().get(); });
        file.close();
        FAILS(closed_error, file.metadata());
        is_gone(file, __LINE__, [&] { (void)file.metadata(); });
        is_gone(transfer, __LINE__, [&] { (void)transfer.upload("a", "b"); });
        is_gone(detached, __LINE__, [&] { (void)detached.key(); });
        is_gone(config, __LINE__, [&] { (void)config.set_owner("x"); });
        is_gone(spec, __LINE__, [&] { (void)spec.set_name("x"); });
        FAILS(closed_error, sandbox::client(config));
        FAILS(closed_error, client_.create(spec));
        const auto taken = std::move(info);
        CHECK(taken.name() == name_);
        FAILS(closed_error, info.name());
        // The client is gone, its boxes are not.
        CHECK(kept.execute("echo on").out() == "on\n");
        is_gone(kept, __LINE__, [&] { (void)kept.execute("true"); });

        const auto other = client_.create();
        const auto again = client_.attach(other.name());
        other.delete_sandbox();
        FAILS(closed_error, other.execute("true"));
        FAILS(closed_error, again.execute("true"));
        FAILS(not_found_error, again.info());
        FAILS(not_found_error, other.delete_sandbox());
        FAILS(not_found_error, other.shutdown());
        sandbox::scoped_box scoped(client_.create());
        sandbox::scoped_box moved(std::move(scoped));
        FAILS(closed_error, scoped->name());
        const auto name = moved->name();
        moved = std::move(scoped);
        scoped = sandbox::scoped_box(moved.release());
        FAILS(not_found_error, sandbox::client(settings(owner_)).attach(name));
    }

    void threads() {
        std::vector<std::thread> threads;
        std::vector<std::string> said(8);
        std::size_t most = 0;
        for (std::size_t index = 0; index < said.size(); index++)
            threads.emplace_back([&, index] {
                for (int round = 0; round < 10; round++)
                    said[index] += box().execute("echo " + std::to_string(index) + "." + std::to_string(round)).out();
            });
        std::thread watch([&] {
            for (int look = 0; look < 50; look++, std::this_thread::sleep_for(2ms)) {
                const auto counts = box().session_counts();
                most = std::max(most, counts.idle + counts.busy);
            }
        });
        for (auto &thread : threads)
            thread.join();
        watch.join();
        for (std::size_t index = 0; index < said.size(); index++) {
            std::string expected;
            for (int round = 0; round < 10; round++)
                expected += std::to_string(index) + "." + std::to_string(round) + "\n";
            CHECK(said[index] == expected);
        }
        CHECK(most > 0 && most <= 8);
    }

    void fork() {
        const auto command = box().command("true");
        const auto file = box().open_file("/etc/passwd");
        const auto transfer = box().transfer();
        const auto detached = box().detached("key");
        const auto child = box().command("cat").spawn();
        const pid_t pid = ::fork();
        if (pid == 0) {
            // No exception and no destructor must leave this branch.
            int status = 1;
            try {
                std::array<char, 8> buffer;
                FAILS(forked_error, client_.list());
                FAILS(forked_error, client_.attach(name_));
                FAILS(forked_error, box().execute("true"));
                FAILS(forked_error, box().info());
                FAILS(forked_error, command.status());
                FAILS(forked_error, file.read(buffer));
                FAILS(forked_error, transfer.upload("/etc/passwd", "x"));
                FAILS(forked_error, detached.try_wait());
                FAILS(forked_error, child.wait());
                FAILS(forked_error, child.read_stdout(buffer));
                status = 0;
            } catch (const std::exception &error) {
                std::cerr << "in the child: " << error.what() << std::endl;
            }
            _exit(status);
        }
        int status = -1;
        CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
        child.in() << "still here";
        CHECK(child.wait_with_output().out() == "still here");
        CHECK(box().execute("echo on").out() == "on\n");
    }

    void callback() {
        auto endless = box().shell("yes; : 60.44");
        std::size_t received = 0;
        const auto error = FAILS(cancelled_error, endless.stream([&](output_stream, std::string_view data) {
            return (received += data.size()) < 5000;
        }));
        CHECK(error.kind() == sandbox::error_kind::cancelled && received >= 5000);
        const auto throws = [&](int line, auto &&call) {
            try {
                call();
            } catch (const own_exception &own) {
                check(own.number == 7, line, "the exception is another one");
                return;
            }
            throw failure("line " + std::to_string(line) + ": nothing was thrown");
        };
        const auto thrown = [](auto &&...) { throw own_exception{7}; };
        throws(__LINE__, [&] { endless.stream(thrown); });
        CHECK(processes("60[.]44") == 0);
        put(local("small"), "small");
        box().write_file("small", "small");
        const auto transfer = box().transfer();
        throws(__LINE__, [&] { (void)transfer.upload(local("small"), "thrown", thrown); });
        throws(__LINE__, [&] { (void)transfer.download("small", local("thrown"), thrown); });
        throws(__LINE__, [&] { (void)transfer.download_to("small", thrown); });
        throws(__LINE__, [&] {
            (void)transfer.upload_from([](char *, std::size_t) -> std::size_t { throw own_exception{7}; }, "thrown");
        });
        FAILS(cancelled_error, transfer.upload_from([](char *, std::size_t) { return -1; }, "thrown"));
        fs::create_directory(local("thrown-tree"));
        throws(__LINE__, [&] { (void)transfer.upload_dir(local("thrown-tree"), "thrown", thrown); });
        CHECK(!box().file_exists("thrown") && !fs::exists(local("thrown")));
        // A callback may use the sandbox, and its errors come out as they are.
        FAILS(file_not_found_error, box().command("echo").stream(
                                   [&](output_stream, std::string_view) { (void)box().read_file("no-such-file"); }));
        CHECK(box().execute("echo on").out() == "on\n");
    }

    void fleet() {
        const auto owner = unique("fleet-cpp");
        const sandbox::client client(settings(owner));
        sandbox::spec big;
        big.set_cpu("500m").set_memory("256Mi").set_disk("1Gi").set_node_selector("kubernetes.io/os", "linux");
        big.set_cpu_request("20m").set_memory_request("64Mi").set_annotation("note", "a test");
        big.set_pod_template(R"({"metadata": {"labels": {"tier": "gold"}}})");
        const sandbox::scoped_box first(client.create(big));
        const sandbox::scoped_box second(client.create());
        const sandbox::scoped_box brief(client.create(sandbox::spec().set_lifetime(5min)));
        const auto owned = [&] {
            std::set<std::string> names;
            for (const auto &one : client.list())
                if (one.owner() == owner && one.phase() != sandbox::phase::terminating)
                    names.insert(one.name());
            return names;
        };
        CHECK((owned() == std::set{first->name(), second->name(), brief->name()}));
        const auto told = brief->info();
        const auto lifetime = told.expires_at().value() - told.created_at().value();
        CHECK(lifetime > 290s && lifetime < 420s);
        brief->renew(1s);
        AWAIT(brief->info().phase() == sandbox::phase::failed);
        CHECK(brief->info().verdict() && brief->info().verdict()->cause == sandbox::cause::expired);
        const auto reaped = client.reap();
        CHECK(std::count(reaped.begin(), reaped.end(), brief->name()) == 1);
        AWAIT((owned() == std::set{first->name(), second->name()}));
        CHECK(first->info().label("tier") == "gold");
        const auto pod = said("kubectl get pod " + first->name() + " -n " + client.namespace_name() +
                              " -o jsonpath='{.metadata.annotations.note} {.spec.nodeSelector.kubernetes\\.io/os}"
                              " {.spec.containers[0].resources.limits} {.spec.containers[0].resources.requests}'");
        for (const auto *part : {"a test linux", R"("cpu":"500m")", R"("memory":"256Mi")",
                                 R"("ephemeral-storage":"1Gi")", R"("cpu":"20m")", R"("memory":"64Mi")"})
            check(pod.find(part) != std::string::npos, __LINE__, (part + " is not in "s + pod).c_str());
        first->delete_sandbox();
        second->shutdown();
        CHECK(owned().empty());
    }

    void pool() {
        const std::string name = unique("pool");
        sandbox::pool_options options;
        options.set_size(2).set_idle_lifetime(10min).set_creates_at_once(2).set_creates_per_second(20);
        const sandbox::pool filler = client_.pool(name, sandbox::spec(), options);
        CHECK(filler.name() == name && filler.status().ready == 0);
        sandbox::claim or_fail;
        or_fail.set_on_miss(sandbox::on_miss::fail);
        CHECK(has(FAILS(pool_empty_error, filler.take(or_fail)), name));
        const sandbox::box instead = filler.take();
        CHECK(instead.origin() == sandbox::origin::pool_miss);
        instead.delete_sandbox();
        CHECK(filler.fill().created == 2);
        const sandbox::filled again = filler.fill();
        CHECK(again.created == 0 && again.retired == 0);

        sandbox::config settings = sandbox::config::from_env();
        settings.set_owner(owner_ + "-other");
        const sandbox::client other(settings);
        const sandbox::pool claiming = other.pool(name);
        sandbox::claim claim;
        claim.set_env("TASK", "17").set_label("of", "a-pool").set_annotation("note", "a note").set_lifetime(5min);
        claim.set_owner(owner_ + "-claimed").add_file("/tmp/task", "a task"s).set_on_miss(sandbox::on_miss::fail);
        const sandbox::box claimed = claiming.take(claim);
        CHECK(claimed.origin() == sandbox::origin::pool && claimed.timings());
        CHECK(claimed.execute("echo $TASK; cat /tmp/task").out() == "17\na task");
        const sandbox::info info = claimed.info();
        CHECK(info.label("of") == "a-pool" && info.owner() == owner_ + "-claimed");
        const auto left = *info.expires_at() - std::chrono::system_clock::now();
        CHECK(left > 4min && left < 6min);
        const sandbox::pool_status status = filler.status();
        CHECK(status.ready == 1 && status.claimed == 1 && status.filling == 0 && status.foreign == 0);
        CHECK(status.oldest && !status.held && status.ending == 0);

        sandbox::spec named;
        named.set_name("a");
        FAILS(invalid_argument_error, client_.pool(name, named));
        sandbox::pool_options endless;
        endless.set_size(1000000);
        FAILS(invalid_argument_error, client_.pool(name, sandbox::spec(), endless));

        CHECK(filler.drain() == 1);
        std::optional<sandbox::box> waited;
        std::thread waiter([&] {
            sandbox::claim or_wait;
            or_wait.set_on_miss(sandbox::on_miss::wait);
            waited.emplace(claiming.take(or_wait));
        });
        AWAIT(claiming.counters().waiting == 1);
        const sandbox::pool keeper = client_.pool(name, sandbox::spec(), options.set_size(1).set_keep_filled());
        waiter.join();
        CHECK(waited->origin() == sandbox::origin::pool_wait);
        waited->delete_sandbox();
        const sandbox::pool_counters counters = claiming.counters();
        CHECK(counters.hits == 1 && counters.misses == 1 && counters.waiting == 0 && counters.bad == 0);
        CHECK(filler.counters().created == 2 && filler.counters().retired == 1);
        keeper.remove();
        claimed.execute("true").check();
        claimed.delete_sandbox();
    }

    void settings_() {
        CHECK(said("openssl genpkey -algorithm ed25519 -out '" + local("key").string() + "' && echo made") == "made\n");
        auto config = sandbox::config::from_env();
        config.set_namespace(client_.namespace_name())
            .set_image(box().info().image())
            .set_ssh_user("sandbox")
            .set_ssh_port(2222);
        config.set_ssh_key(local("key")).set_transport(sandbox::transport::tunnel).set_owner(owner_).set_lifetime(5min);
        config.set_create_timeout(60s)
            .set_connect_timeout(20s)
            .set_command_timeout(std::nullopt)
            .set_transfer_timeout(1h);
        config.set_idle_timeout(1500ms).set_max_sessions(2).set_log(sandbox::log_level::error).set("log", "off");
        sandbox::config().set_kubeconfig("kubeconfig").set_context("context");
        const sandbox::client client(config);
        CHECK(client.max_sessions() == 2);
        sandbox::spec spec;
        spec.set_name(unique("settings-cpp")).set_image(box().info().image()).set_env("A", "b").set_label("a", "b");
        spec.set_annotation("a", "b").set_cpu("1").set_cpu_request("10m").set_memory("512Mi").set_memory_request(
            "32Mi");
        spec.set_disk("1Gi").set_lifetime(10min).set_hard_limit(1h).set_unschedulable_grace(5s).set_pod_template("{}");
        spec.set_node_selector("kubernetes.io/os", "linux").set_user_from_cluster();
        sandbox::spec().set_runtime_class("gvisor").set_hard_limit(std::nullopt).set_lifetime(std::nullopt);
        const sandbox::scoped_box made(client.create(spec));
        CHECK(made->ssh_port() == 2222 && made->info().label("a") == "b");
        CHECK(made->execute("echo $A").check().out() == "b\n");

        CHECK(has(FAILS(config_error, config.set("ssh_port", "many")), "ssh_port"));
        CHECK(has(FAILS(error, sandbox::client(sandbox::config::from_env().set_owner("not allowed!"))), "owner"));
        CHECK(has(FAILS(error, sandbox::client(sandbox::config::from_env().set_max_sessions(0))), "max_sessions"));
        CHECK(has(FAILS(config_error, sandbox::client(sandbox::config().set_context("no-such-context"))),
                  "no-such-context"));
        CHECK(has(FAILS(invalid_argument_error, config.set_lifetime(-1s)), "lifetime"));
        FAILS(invalid_argument_error, spec.set_pod_template("[]"));
        std::atomic<int> lines = 0, of_debug = 0;
        sandbox::set_log_handler(sandbox::log_level::debug,
                                 [&](sandbox::log_level level, std::string_view target, std::string_view message) {
                                     lines++;
                                     of_debug += level == sandbox::log_level::debug && !message.empty() &&
                                                 target.substr(0, 9) == "sandbox::";
                                 });
        (void)client_.list();
        CHECK(of_debug > 0);
        FAILS(config_error, config.init_logging());
        sandbox::set_log_handler(sandbox::log_level::off, nullptr);
        lines = 0;
        (void)client_.list();
        CHECK(lines == 0);
        config.init_logging();
        FAILS(config_error, config.init_logging());
        CHECK(sandbox::version() == std::to_string(SBX_VERSION_MAJOR) + "." + std::to_string(SBX_VERSION_MINOR) + "." +
                                        std::to_string(SBX_VERSION_PATCH));
        CHECK(sandbox::version_number() == SBX_VERSION_NUMBER);
    }

    void end() {
        box().delete_sandbox();
        FAILS(not_found_error, client_.get_sandbox_info(name_));
        FAILS(closed_error, box().execute("true"));
        const auto all = client_.list();
        CHECK(std::none_of(all.begin(), all.end(), [&](const auto &one) { return one.owner() == owner_; }));
    }

    int go(const std::vector<std::string> &chosen) {
        const std::vector<std::pair<std::string, void (conformance::*)()>> scenarios{
            {"life", &conformance::life},
            {"by-name", &conformance::by_name},
            {"run", &conformance::run},
            {"streams", &conformance::streams},
            {"exit-status", &conformance::exit_status},
            {"timeout", &conformance::timeout},
            {"cancel", &conformance::cancel},
            {"terminal", &conformance::terminal},
            {"detached", &conformance::detached},
            {"ports", &conformance::ports},
            {"bytes", &conformance::bytes},
            {"large", &conformance::large},
            {"files", &conformance::files},
            {"transfers", &conformance::transfers},
            {"trees", &conformance::trees},
            {"errors", &conformance::errors},
            {"file-errors", &conformance::file_errors},
            {"use-after-close", &conformance::use_after_close},
            {"threads", &conformance::threads},
            {"fork", &conformance::fork},
            {"callback", &conformance::callback},
            {"fleet", &conformance::fleet},
            {"pool", &conformance::pool},
            {"settings", &conformance::settings_},
            {"end", &conformance::end},
        };
        bool all_well = true;
        for (const auto &[name, scenario] : scenarios) {
            if (name != "life" && !chosen.empty() && std::find(chosen.begin(), chosen.end(), name) == chosen.end())
                continue;
            try {
                (this->*scenario)();
                std::cout << "ok " << name << std::endl;
            } catch (const std::exception &error) {
                all_well = false;
                std::cout << "failed " << name << ": " << error.what() << std::endl;
            }
        }
        return all_well ? 0 : 1;
    }

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

} // namespace

int main(int argc, char **argv) {
    if (argc < 2) {
        std::cerr << "usage: conformance DIRECTORY [SCENARIO...]\n";
        return 2;
    }
    try {
        return conformance(argv[1]).go(std::vector<std::string>(argv + 2, argv + argc));
    } catch (const std::exception &error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}
