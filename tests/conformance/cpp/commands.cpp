// The scenarios of commands.

#include "conformance.hpp"

void conformance::run() {
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

void conformance::streams() {
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

void conformance::exit_status() {
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

void conformance::timeout() {
    const auto began = std::chrono::steady_clock::now();
    auto sleeper = box().shell("echo before; exec sleep 60.11");
    const auto error = FAILS(timed_out_error, sleeper.set_timeout(4s).output());
    CHECK(std::chrono::steady_clock::now() - began < 30s);
    CHECK(error.kind() == sandbox::error_kind::timed_out && error.out() == "before\n" && error.err() == "");
    CHECK(processes("sleep 60[.]11") == 0);
    FAILS(invalid_argument_error, sleeper.set_timeout(-1s));
    CHECK(box().command("true").set_timeout(std::nullopt).status().success());
}

void conformance::cancel() {
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

void conformance::terminal() {
    auto command = box().shell("stty size; while [ \"$(stty size)\" = '30 100' ]; do sleep 0.05; done; stty size");
    const auto child = command.set_terminal("xterm-256color", 100, 30).set_timeout(60s).spawn();
    std::string line;
    CHECK(std::getline(child.out(), line) && line == "30 100\r");
    child.resize(120, 40);
    CHECK(std::getline(child.out(), line) && line == "40 120\r");
    CHECK(child.wait().success());
}

void conformance::detached() {
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

void conformance::bytes() {
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

void conformance::large() {
    const auto input = noise(16 << 20);
    put(local("large"), input);
    const auto sum = said("sha256sum < '" + local("large").string() + "'");
    CHECK(sum.size() == 68 && box().command("sha256sum").set_stdin(input).output().check().out() == sum);
    CHECK(box().command("cat").set_stdin(input).output().out() == input);
    const auto limited = box().command("cat").set_stdin(input).set_output_limit(1000).output();
    CHECK(limited.out() == input.substr(0, 1000) && limited.truncated() == input.size() - 1000);
}

void conformance::threads() {
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

void conformance::fork() {
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

void conformance::callback() {
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
