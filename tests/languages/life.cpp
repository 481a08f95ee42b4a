// The life of a sandbox in C++17. The first argument is an empty directory to work in.

#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "sandbox.h"

namespace {

// A deleter for each handle, so that unique_ptr owns it.
template <auto free> struct Free {
    template <typename T> void operator()(T *handle) const { free(handle); }
};
using Config = std::unique_ptr<sbx_config, Free<sbx_config_free>>;
using Client = std::unique_ptr<sbx_client, Free<sbx_client_free>>;
using Spec = std::unique_ptr<sbx_spec, Free<sbx_spec_free>>;
using Sandbox = std::unique_ptr<sbx_sandbox, Free<sbx_sandbox_free>>;
using Command = std::unique_ptr<sbx_command, Free<sbx_command_free>>;
using Output = std::unique_ptr<sbx_output, Free<sbx_output_free>>;
using Ending = std::unique_ptr<sbx_ending, Free<sbx_ending_free>>;
using Info = std::unique_ptr<sbx_info, Free<sbx_info_free>>;
using List = std::unique_ptr<sbx_list, Free<sbx_list_free>>;
using Bytes = std::unique_ptr<sbx_bytes, Free<sbx_bytes_free>>;
using Error = std::unique_ptr<sbx_error, Free<sbx_error_free>>;

void check(bool condition, std::string_view what) {
    if (!condition)
        throw std::runtime_error(std::string(what));
}
#define CHECK(condition) check(condition, #condition)

// Calls a function that can fail, and throws its error.
template <typename... P, typename... A> void call(sbx_status (*function)(P...), A... arguments) {
    sbx_error *error = nullptr;
    if (function(arguments..., &error) != SBX_OK)
        throw std::runtime_error(sbx_error_message(Error(error).get()));
    CHECK(error == nullptr);
}

// The same for one that gives a handle out as its last result.
template <typename Handle, typename... P, typename... A> Handle make(sbx_status (*function)(P...), A... arguments) {
    typename Handle::pointer handle = nullptr;
    call(function, arguments..., &handle);
    return Handle(handle);
}

// Calls a function that must fail with this status.
template <typename... P, typename... A> Error fails(sbx_status status, sbx_status (*function)(P...), A... arguments) {
    sbx_error *error = nullptr;
    const sbx_status answer = function(arguments..., &error);
    Error owned(error);
    CHECK(answer == status && sbx_error_status(owned.get()) == status);
    return owned;
}

std::string out(const Output &output) {
    size_t len = 0;
    const auto *data = sbx_output_stdout(output.get(), &len);
    return std::string(reinterpret_cast<const char *>(data), len);
}

void use(const Client &client, const Sandbox &sandbox, const std::string &directory) {
    const char *name = sbx_sandbox_name(sandbox.get());
    const auto info = make<Info>(sbx_sandbox_info, sandbox.get());
    CHECK(std::string_view(sbx_info_owner(info.get())) == "life-cpp");
    CHECK(sbx_info_expires_at(info.get(), nullptr));

    auto output = make<Output>(sbx_sandbox_execute, sandbox.get(), "printf 'a\\0b'; exit 4");
    CHECK(out(output) == std::string("a\0b", 3));
    int32_t code = 0;
    CHECK(sbx_output_exit_code(output.get(), &code) && code == 4);
    CHECK(sbx_output_check(output.get(), nullptr) == SBX_ERR_COMMAND_FAILED);

    const auto command = make<Command>(sbx_sandbox_command, sandbox.get(), "sh");
    for (const char *argument : {"-c", "cat; printf '|%s' \"$A\" \"$PWD\" \"$1\"", "sh", "a 'b'"})
        call(sbx_command_add_arg, command.get(), argument);
    const std::vector<uint8_t> input{1, 0, 2};
    call(sbx_command_set_stdin, command.get(), input.data(), input.size());
    call(sbx_command_set_env, command.get(), "A", "x");
    call(sbx_command_set_current_dir, command.get(), "/");
    call(sbx_command_set_timeout, command.get(), 20.0);
    output = make<Output>(sbx_command_output, command.get());
    CHECK(out(output) == std::string("\1\0\2|x|/|a 'b'", 13));

    // Four threads on one const command.
    std::vector<std::thread> threads;
    int right[4] = {};
    for (int &answer : right)
        threads.emplace_back([&command, &answer] {
            sbx_ending *ending = nullptr;
            if (sbx_command_status(command.get(), &ending, nullptr) == SBX_OK)
                answer = sbx_ending_success(Ending(ending).get());
        });
    for (auto &thread : threads)
        thread.join();
    CHECK(right[0] + right[1] + right[2] + right[3] == 4);

    const auto endless = make<Command>(sbx_sandbox_shell, sandbox.get(), "yes");
    size_t received = 0;
    const auto receive = [](void *userdata, sbx_stream, const uint8_t *, size_t len) -> int32_t {
        return (*static_cast<size_t *>(userdata) += len) > 5000 ? 1 : 0;
    };
    fails(SBX_ERR_CANCELLED, sbx_command_stream, endless.get(), +receive, &received, nullptr);
    CHECK(received > 5000);
    call(sbx_command_set_timeout, endless.get(), 0.3);
    call(sbx_command_set_output_limit, endless.get(), 10);
    size_t len = 0;
    sbx_output *none = nullptr;
    const auto timed_out = fails(SBX_ERR_TIMED_OUT, sbx_command_output, endless.get(), &none);
    CHECK(none == nullptr);
    CHECK(sbx_error_stdout(timed_out.get(), &len) != nullptr && len == 10);

    const std::string local = directory + "/local", back = directory + "/back";
    std::ofstream(local, std::ios::binary) << std::string("f\0g", 3);
    call(sbx_sandbox_upload_file, sandbox.get(), local.c_str(), "file", nullptr);
    uint64_t size = 0;
    call(sbx_sandbox_download_file, sandbox.get(), "file", back.c_str(), &size);
    std::ifstream file(back, std::ios::binary);
    CHECK(size == 3 && std::string(std::istreambuf_iterator<char>(file), {}) == std::string("f\0g", 3));
    call(sbx_sandbox_write_file, sandbox.get(), "written", input.data(), input.size());
    const auto bytes = make<Bytes>(sbx_sandbox_read_file, sandbox.get(), "written");
    CHECK(sbx_bytes_data(bytes.get(), &len)[2] == 2 && len == 3);

    const auto second = make<Sandbox>(sbx_client_attach, client.get(), name);
    CHECK(std::string_view(sbx_sandbox_uid(second.get())) == sbx_sandbox_uid(sandbox.get()));
    CHECK(sbx_list_count(make<List>(sbx_client_list, client.get()).get()) > 0);
    int64_t expiry = 0;
    call(sbx_sandbox_renew, second.get(), 900.0, &expiry);
    CHECK(expiry > 0);
    fails(SBX_ERR_INVALID_ARGUMENT, sbx_sandbox_execute, sandbox.get(), nullptr, nullptr);
    fails(SBX_ERR_NOT_FOUND, sbx_client_delete_sandbox, client.get(), "no-such-sandbox");
}

void live(const std::string &directory) {
    const auto config = make<Config>(sbx_config_from_env);
    call(sbx_config_set_owner, config.get(), "life-cpp");
    call(sbx_config_set_lifetime, config.get(), 300.0);
    const auto client = make<Client>(sbx_client_new, config.get());
    const auto sandbox = make<Sandbox>(sbx_client_create, client.get(), nullptr);
    try {
        use(client, sandbox, directory);
    } catch (...) {
        (void)sbx_sandbox_delete(sandbox.get(), nullptr);
        throw;
    }
    call(sbx_client_shutdown_sandbox, client.get(), sbx_sandbox_name(sandbox.get()));
    sbx_sandbox *gone = nullptr;
    fails(SBX_ERR_NOT_FOUND, sbx_client_attach, client.get(), sbx_sandbox_name(sandbox.get()), &gone);
}

} // namespace

int main(int argc, char **argv) {
    try {
        CHECK(argc == 2);
        CHECK(sbx_version_number() == SBX_VERSION_NUMBER);
        live(argv[1]);
    } catch (const std::exception &e) {
        std::cerr << e.what() << '\n';
        return 1;
    }
    std::cout << "done\n";
}
