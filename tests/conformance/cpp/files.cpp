// The scenarios of files.

#include "conformance.hpp"

void conformance::files() {
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

void conformance::transfers() {
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

void conformance::trees() {
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

void conformance::file_errors() {
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
