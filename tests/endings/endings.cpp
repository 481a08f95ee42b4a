// Objects of C++ that end in any order: destroyed, moved from, thrown through, and at the program's end.
// AddressSanitizer looks at it.

#include <sandbox.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;

#define CHECK(condition) \
    do { \
        if (!(condition)) \
            throw std::logic_error(std::string(__FILE__) + ":" + std::to_string(__LINE__) + ": " + #condition); \
    } while (0)

// Ends after main(), in an order that nobody has thought of; what is in here was made in another one.
struct late {
    std::optional<sandbox::file> file;
    std::optional<sandbox::client> client;
    std::optional<sandbox::child> child;
    std::optional<sandbox::scoped_box> box;
    std::optional<sandbox::detached> detached;
    std::optional<sandbox::box> attached;
};
late at_the_end;

// Something, and what shows that it works.
struct thing {
    std::shared_ptr<void> object;
    std::function<void()> use;
};

template <class T> void add(std::vector<thing> &things, T object, std::function<void(T &)> use) {
    auto kept = std::make_shared<T>(std::move(object));
    T *place = kept.get();
    things.push_back({std::move(kept), [place, use] { use(*place); }});
}

std::vector<thing> everything(const std::string &name) {
    std::vector<thing> things;
    auto config = sandbox::config::from_env();
    sandbox::client client(config);
    auto box = client.attach(name);
    auto command = box.command("true");
    auto child = box.command("cat").spawn();
    // References of streams stay, wherever their command goes.
    std::ostream &in = child.in();
    std::istream &out = child.out();
    add<sandbox::output>(things, command.output(), [](auto &output) { CHECK(output.success()); });
    add<sandbox::file>(things, box.open_file("/etc/passwd"), [](auto &file) {
        char first = 0;
        file.seek(0);
        CHECK(file.read({&first, 1}) == 1 && first == 'r');
    });
    add<sandbox::transfer>(things, box.transfer(), [](auto &transfer) {
        std::string told;
        transfer.download_to("/etc/passwd", [&](std::string_view data) { told += data; });
        CHECK(told.rfind("root:", 0) == 0);
    });
    add<sandbox::detached>(things, box.detached("nothing"), [](auto &detached) { CHECK(detached.key() == "nothing"); });
    add<sandbox::info>(things, box.info(), [name](auto &info) { CHECK(info.name() == name); });
    auto infos = client.list();
    // Each keeps the list.
    add<sandbox::info>(things, infos.front(), [](auto &info) { CHECK(!info.name().empty()); });
    add<std::vector<sandbox::info>>(things, std::move(infos), [](auto &all) { CHECK(!all.back().name().empty()); });
    add<std::vector<sandbox::directory_entry>>(things, box.read_dir("/etc"), [](auto &all) { CHECK(all.size() > 3); });
    add<sandbox::child>(things, std::move(child), [&in, &out](auto &same) {
        in << "line\n";
        std::string line;
        CHECK(std::getline(out, line) && line == "line" && &same.out() == &out);
    });
    try {
        box.remove_file("/no/such");
    } catch (const sandbox::file_not_found_error &error) {
        add<sandbox::file_not_found_error>(things, error, [](auto &copy) { CHECK(!copy.operation().empty()); });
    }
    add<sandbox::command>(things, std::move(command), [](auto &same) { CHECK(same.status().success()); });
    add<sandbox::box>(things, std::move(box), [](auto &same) { CHECK(same.execute("echo on").out() == "on\n"); });
    add<sandbox::client>(things, std::move(client), [](auto &same) { CHECK(!same.namespace_name().empty()); });
    add<sandbox::config>(things, std::move(config), [](auto &same) { same.set_owner("somebody"); });
    add<sandbox::spec>(things, sandbox::spec(), [](auto &same) { same.set_name("a-name"); });
    CHECK(things.size() == 15);
    return things;
}

void in_any_order(const std::string &name) {
    std::mt19937 random(1);
    for (int round = 0; round < 24; round++) {
        auto things = everything(name);
        if (round == 1)
            std::reverse(things.begin(), things.end());
        else if (round > 1)
            std::shuffle(things.begin(), things.end(), random);
        while (!things.empty()) {
            things.erase(things.begin());
            if (!things.empty())
                things[random() % things.size()].use();
        }
    }
    // By several threads at once, none of which has made them.
    for (int round = 0; round < 5; round++) {
        auto things = everything(name);
        std::vector<std::thread> threads;
        for (auto &one : things)
            threads.emplace_back([own = std::move(one)]() mutable { own = {}; });
        for (auto &one : threads)
            one.join();
    }
}

void assigned_over_what_runs(const sandbox::box &box) {
    auto child = box.command("cat").spawn();
    child.in() << "in the first\n";
    // The first one goes on without us, and its input ends.
    child = box.command("cat").spawn();
    child.in() << "in the second\n";
    child.close_stdin();
    std::string line;
    CHECK(std::getline(child.out(), line) && line == "in the second");
    sandbox::child &same = child;
    child = std::move(same);
    CHECK(child && child.wait().success());
    auto file = box.open_file("/etc/passwd");
    sandbox::file &same_file = file;
    file = std::move(same_file);
    file = box.open_file("/etc/group");
    file.close();
    file = box.open_file("/etc/passwd");
    std::vector<sandbox::file> files;
    for (int i = 0; i < 5; i++)
        files.push_back(box.open_file("/etc/passwd"));
    files.erase(files.begin() + 1);
    std::swap(files.front(), files.back());
    files.pop_back();
}

void thrown_through(const sandbox::client &client) {
    std::string name;
    try {
        const std::atomic<bool> is_interrupted = true;
        const sandbox::scoped_box own(client.create());
        name = own->name();
        const auto child = own->command("cat").spawn();
        const auto file = own->open_file("written", sandbox::open_mode::write | sandbox::open_mode::create);
        file.write("contents");
        // It is still there when the box is deleted, and says yes again.
        const sandbox::on_wait asked([&] { return is_interrupted.load(); });
        (void)own->command("sleep").add_arg("60").output();
        CHECK(!"it was not interrupted");
    } catch (const sandbox::cancelled_error &) {
    }
    for (int i = 0; i < 600; i++) {
        try {
            (void)client.get_sandbox_info(name);
        } catch (const sandbox::not_found_error &) {
            return;
        }
        std::this_thread::sleep_for(100ms);
    }
    CHECK(!"the box is left");
}

// What a call that waits is ended by.
bool is_cancelled(const sandbox::box &box) {
    try {
        (void)box.command("sleep").add_arg("1").output();
        return false;
    } catch (const sandbox::cancelled_error &) {
        return true;
    }
}

void asked_by_whom_is_left(const sandbox::box &box) {
    const auto yes = [] { return true; };
    const auto no = [] { return false; };
    auto outer = std::make_unique<sandbox::on_wait>(yes);
    CHECK(is_cancelled(box));
    auto middle = std::make_unique<sandbox::on_wait>(no);
    CHECK(!is_cancelled(box));
    auto inner = std::make_unique<sandbox::on_wait>(yes);
    CHECK(is_cancelled(box));
    inner.reset();
    CHECK(!is_cancelled(box));
    middle.reset();
    CHECK(is_cancelled(box));
    // The outer one ends first.
    middle = std::make_unique<sandbox::on_wait>(no);
    inner = std::make_unique<sandbox::on_wait>(yes);
    middle.reset();
    CHECK(is_cancelled(box));
    outer.reset();
    CHECK(is_cancelled(box));
    inner.reset();
    CHECK(!is_cancelled(box));
    // Of another thread.
    const sandbox::on_wait own(yes);
    std::thread([&] { CHECK(!is_cancelled(box)); }).join();
    CHECK(is_cancelled(box));
}

void scoped(const sandbox::client &client) {
    std::vector<sandbox::scoped_box> boxes;
    std::vector<std::string> names;
    for (int i = 0; i < 3; i++) {
        boxes.emplace_back(client.create());
        names.push_back(boxes.back()->name());
    }
    const auto kept = boxes[1].release();
    boxes[0] = std::move(boxes[2]);
    sandbox::scoped_box &same = boxes[0];
    boxes[0] = std::move(same);
    CHECK(boxes[0]->name() == names[2] && kept.name() == names[1]);
    const auto is_there = [&](const std::string &name) {
        try {
            (void)client.get_sandbox_info(name);
            return true;
        } catch (const sandbox::not_found_error &) {
            return false;
        }
    };
    CHECK(!is_there(names[0]) && is_there(names[1]) && is_there(names[2]));
    // One that was deleted by hand is no trouble.
    boxes[0]->delete_sandbox();
    boxes.clear();
    kept.delete_sandbox();
    CHECK(!is_there(names[1]) && !is_there(names[2]));
}

// What a thread has for itself ends with it, after much of what the library has for it.
void at_the_end_of_a_thread(const sandbox::client &client) {
    std::string name;
    std::thread([&] {
        static thread_local late own;
        own.box = sandbox::scoped_box(client.create());
        name = (*own.box)->name();
        own.client = sandbox::client::from_env();
        own.attached = own.client->attach(name);
        own.child = own.attached->command("cat").spawn();
        own.file = own.attached->open_file("left", sandbox::open_mode::write | sandbox::open_mode::create);
    }).join();
    try {
        (void)client.get_sandbox_info(name);
        CHECK(!"the box is left");
    } catch (const sandbox::not_found_error &) {
    }
}

} // namespace

int main() {
    try {
        at_the_end.client = sandbox::client::from_env();
        at_the_end.box = sandbox::scoped_box(at_the_end.client->create());
        const sandbox::box &box = **at_the_end.box;
        std::cout << box.name() << std::endl;
        in_any_order(box.name());
        assigned_over_what_runs(box);
        asked_by_whom_is_left(box);
        scoped(*at_the_end.client);
        thrown_through(*at_the_end.client);
        at_the_end_of_a_thread(*at_the_end.client);
        at_the_end.attached = at_the_end.client->attach(box.name());
        at_the_end.child = box.command("cat").spawn();
        at_the_end.file = box.open_file("/tmp/left", sandbox::open_mode::write | sandbox::open_mode::create);
        at_the_end.file->write("contents");
        at_the_end.detached = box.detached("nothing");
    } catch (const std::exception &error) {
        std::cerr << error.what() << std::endl;
        return 1;
    }
    return 0;
}
