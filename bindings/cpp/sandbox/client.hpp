/// \file
/// Part of sandbox.hpp, which is to be included: clients, their configuration, and what they create.

#ifndef SANDBOX_CLIENT_HPP
#define SANDBOX_CLIENT_HPP

#include <sandbox.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "box.hpp"
#include "pool.hpp"

namespace [[gnu::visibility("default")]] sandbox {

/// How a client reaches Kubernetes and its sandboxes, and how long it waits. A client copies what it needs of it.
/// Setters give the configuration back, so that they can be chained; the object itself stays where it is. They throw
/// invalid_argument_error for text that is not UTF-8; what is not allowed otherwise is a config_error, here or from
/// client::client().
class config : public handle<sbx_config> {
public:
    /// The defaults, whatever the environment says.
    config() : handle(detail::make(sbx_config_new)) {}

    using handle::handle;

    /// From the SANDBOX_ variables of the environment, then of a .env file in the working directory or above it, then
    /// the defaults. The process's environment is not changed. A .env file may be part of untrusted code. So
    /// SANDBOX_KUBECONFIG, SANDBOX_CONTEXT and SANDBOX_SSH_KEY are refused in it, and a file that another user can
    /// write to is ignored. config_error; the message has the variable, its source, its value and the allowed values.
    [[nodiscard]] static config from_env() { return config(detail::make(sbx_config_from_env)); }

    /// Sets a setting by its name, such as "ssh_port", from text in the form used in the environment, such as "2222".
    /// The names are those of the setters. config_error if there is no such setting or the value is not allowed; the
    /// message lists the settings or the allowed values.
    config &set(std::string_view name, std::string_view value) {
        detail::call(sbx_config_set, native_handle(), detail::c_text(name, "name").get(),
                     detail::c_text(value, "value").get());
        return *this;
    }

    /// Kubernetes namespace of the sandboxes. Default: the context's or the service account's, else "default".
    config &set_namespace(std::string_view value) { return with(sbx_config_set_namespace, value, "namespace"); }

    /// Path of a kubeconfig file. Default: KUBECONFIG, else ~/.kube/config, else the service account of the Pod that
    /// this runs in.
    config &set_kubeconfig(const std::filesystem::path &path) {
        return with(sbx_config_set_kubeconfig, path.native(), "path");
    }

    /// Context in the kubeconfig. Default: its current context.
    config &set_context(std::string_view value) { return with(sbx_config_set_context, value, "context"); }

    /// Image of new sandboxes whose spec names none.
    config &set_image(std::string_view value) { return with(sbx_config_set_image, value, "image"); }

    /// User name for SSH. Default: "sandbox".
    config &set_ssh_user(std::string_view value) { return with(sbx_config_set_ssh_user, value, "ssh_user"); }

    /// Port of the SSH server in new sandboxes. Default: 2222.
    config &set_ssh_port(std::uint16_t port) {
        detail::call(sbx_config_set_ssh_port, native_handle(), port);
        return *this;
    }

    /// Path of an unencrypted ed25519 private key in OpenSSH's format or PEM (PKCS#8), for processes that share
    /// sandboxes. Default: a new key in memory for each client.
    config &set_ssh_key(const std::filesystem::path &path) {
        return with(sbx_config_set_ssh_key, path.native(), "path");
    }

    /// The way to the sandboxes. Default: transport::automatic.
    config &set_transport(transport way) {
        detail::call(sbx_config_set_transport, native_handle(), static_cast<std::int32_t>(way));
        return *this;
    }

    /// Label value that names the owner of the sandboxes: at most 63 letters, digits, '-', '_' and '.'. Default:
    /// "default".
    config &set_owner(std::string_view value) { return with(sbx_config_set_owner, value, "owner"); }

    /// Time until a new sandbox expires; std::nullopt for never. Default: an hour.
    config &set_lifetime(std::optional<seconds> time) { return with(sbx_config_set_lifetime, time, "lifetime"); }

    /// Time for creating a sandbox, up to its first login; std::nullopt for no limit. Default: 300 s.
    config &set_create_timeout(std::optional<seconds> time) {
        return with(sbx_config_set_create_timeout, time, "create_timeout");
    }

    /// Time for one SSH connection with login; std::nullopt for no limit. Default: 30 s.
    config &set_connect_timeout(std::optional<seconds> time) {
        return with(sbx_config_set_connect_timeout, time, "connect_timeout");
    }

    /// Time for a command that sets none itself; std::nullopt for no limit. Default: 600 s.
    config &set_command_timeout(std::optional<seconds> time) {
        return with(sbx_config_set_command_timeout, time, "command_timeout");
    }

    /// Time for a file transfer; std::nullopt for no limit. Default: an hour.
    config &set_transfer_timeout(std::optional<seconds> time) {
        return with(sbx_config_set_transfer_timeout, time, "transfer_timeout");
    }

    /// Time after which an unused SSH session is closed; std::nullopt for never. Default: 300 s.
    config &set_idle_timeout(std::optional<seconds> time) {
        return with(sbx_config_set_idle_timeout, time, "idle_timeout");
    }

    /// SSH sessions to one sandbox at the same time, 1 to 1000; further callers wait. Default: 16.
    config &set_max_sessions(std::size_t sessions) {
        detail::call(sbx_config_set_max_sessions, native_handle(), sessions);
        return *this;
    }

    /// Level for init_logging(). Default: log_level::warn.
    config &set_log(log_level level) {
        detail::call(sbx_config_set_log, native_handle(), static_cast<std::int32_t>(level));
        return *this;
    }

    /// Sends the library's log lines to standard error at the configured level, for the rest of the process's life.
    /// Without this the library writes nothing. config_error if this was done before.
    void init_logging() const { detail::call(sbx_config_init_logging, native_handle()); }

private:
    config &with(sbx_status (*setter)(sbx_config *, const char *, sbx_error **), std::string_view value,
                 const char *name) {
        detail::call(setter, native_handle(), detail::c_text(value, name).get());
        return *this;
    }

    config &with(sbx_status (*setter)(sbx_config *, double, sbx_error **), std::optional<seconds> time,
                 const char *name) {
        detail::call(setter, native_handle(), detail::optional_seconds(time, name));
        return *this;
    }
};

/// What to create: change what matters, then client::create(), as often as wanted. Text is UTF-8. Values that
/// Kubernetes does not accept are reported by client::create(). Setters give the spec back, so that they can be
/// chained; the object itself stays where it is.
class spec : public handle<sbx_spec> {
public:
    /// The defaults: a name made up by the client, the configured image, 1 CPU, 1 GiB of memory.
    spec() : handle(detail::make(sbx_spec_new)) {}

    using handle::handle;

    /// Name of the sandbox and of its Pod: at most 63 lower-case letters, digits and '-'. Default: "sandbox-" and 16
    /// random hexadecimal digits.
    spec &set_name(std::string_view value) { return with(sbx_spec_set_name, value, "name"); }

    /// Image to run: any Linux image, without requirements, since the library brings the sandbox's main process
    /// (setting "guest"). Its entry point is not used. Default: the configured image.
    spec &set_image(std::string_view value) { return with(sbx_spec_set_image, value, "image"); }

    /// An environment variable for everything that runs in the sandbox, on top of the image's own.
    spec &set_env(std::string_view name, std::string_view value) { return with(sbx_spec_set_env, name, value); }

    /// A Kubernetes label on the Pod.
    spec &set_label(std::string_view name, std::string_view value) { return with(sbx_spec_set_label, name, value); }

    /// A Kubernetes annotation on the Pod.
    spec &set_annotation(std::string_view name, std::string_view value) {
        return with(sbx_spec_set_annotation, name, value);
    }

    /// The most CPU it may use, as a Kubernetes quantity such as "500m" or "2". Default: "1".
    spec &set_cpu(std::string_view value) { return with(sbx_spec_set_cpu, value, "cpu"); }

    /// The CPU that the scheduler sets aside for it, as a Kubernetes quantity. Default: "10m".
    spec &set_cpu_request(std::string_view value) { return with(sbx_spec_set_cpu_request, value, "cpu_request"); }

    /// The most memory it may use, as a Kubernetes quantity such as "512Mi"; if it uses more, the kernel kills
    /// processes. Default: "1Gi".
    spec &set_memory(std::string_view value) { return with(sbx_spec_set_memory, value, "memory"); }

    /// The memory that the scheduler sets aside for it, as a Kubernetes quantity. Default: "32Mi".
    spec &set_memory_request(std::string_view value) {
        return with(sbx_spec_set_memory_request, value, "memory_request");
    }

    /// The most disk space that it may write, as a Kubernetes quantity; beyond it the node evicts the Pod. Default: no
    /// limit.
    spec &set_disk(std::string_view value) { return with(sbx_spec_set_disk, value, "disk"); }

    /// Time until the sandbox expires: it stops by itself, and client::reap() deletes what is left. box::renew() moves
    /// it. std::nullopt for never. Default: the configured lifetime.
    spec &set_lifetime(std::optional<seconds> time) {
        detail::call(sbx_spec_set_lifetime, native_handle(), detail::optional_seconds(time, "lifetime"));
        return *this;
    }

    /// Time after which Kubernetes itself stops the Pod; no renewal moves it. std::nullopt for never. Default: 24
    /// hours, or twice the lifetime if that is more; none for a sandbox that never expires.
    spec &set_hard_limit(std::optional<seconds> time) {
        detail::call(sbx_spec_set_hard_limit, native_handle(), detail::optional_seconds(time, "hard_limit"));
        return *this;
    }

    /// Time without use after which the sandbox stops by itself, as when it expires; whole seconds, rounded up.
    /// std::nullopt for never. In use is a sandbox in which a command runs, detached ones too, or of which a file or a
    /// connection to a port is open; and whatever a client asks for, a renewal too, is a use at that moment. An idle
    /// SSH connection is none. The sandbox itself keeps this time, whether its clients are there or not. Of a pool's
    /// members it begins with the claim. Default: never.
    spec &set_idle_timeout(std::optional<seconds> time) {
        detail::call(sbx_spec_set_idle_timeout, native_handle(), detail::optional_seconds(time, "idle_timeout"));
        return *this;
    }

    /// Lets the cluster or the image choose the user and group that the sandbox runs as: the Pod sets none. Needed on
    /// clusters that assign them per namespace, such as OpenShift. Root stays forbidden. Default: user and group 1000,
    /// whatever the image says.
    spec &set_user_from_cluster() {
        detail::call(sbx_spec_set_user_from_cluster, native_handle());
        return *this;
    }

    /// Gives commands a user of their own below a guest that runs as root: a name or number that the image's
    /// /etc/passwd knows, or numbers of a user and a group such as "1000:1000". Files and sockets are reached as that
    /// user too. The Pod then runs as root, with the capabilities KILL, SETGID and SETUID and no others, which the
    /// restricted and baseline Pod Security Standards refuse. gVisor can't do it. Default: commands and guest have
    /// the sandbox's user.
    spec &set_commands_as(std::string_view user) { return with(sbx_spec_set_commands_as, user, "commands_as"); }

    /// Runtime class, such as "gvisor" or "kata". Default: the cluster's. The tunnel transport does not
    /// work under these two, the others do. The library logs a warning for each guarantee that does not hold there.
    spec &set_runtime_class(std::string_view value) { return with(sbx_spec_set_runtime_class, value, "runtime_class"); }

    /// A label that the node must have.
    spec &set_node_selector(std::string_view label, std::string_view value) {
        return with(sbx_spec_set_node_selector, label, value);
    }

    /// How long to wait for a Pod that can't be scheduled, so that an autoscaler can add a node. Default: 10 s.
    spec &set_unschedulable_grace(seconds time) {
        detail::call(sbx_spec_set_unschedulable_grace, native_handle(),
                     detail::exact_seconds(time, "unschedulable_grace"));
        return *this;
    }

    /// A Pod in JSON that is merged over the one that the library makes (RFC 7386: objects are merged, everything else
    /// is replaced; the list "containers" is replaced too, except that an entry named "sandbox" is merged). This
    /// reaches every field that Kubernetes has. invalid_argument_error if the text is not a JSON object.
    spec &set_pod_template(std::string_view json) { return with(sbx_spec_set_pod_template, json, "json"); }

private:
    spec &with(sbx_status (*setter)(sbx_spec *, const char *, sbx_error **), std::string_view value, const char *name) {
        detail::call(setter, native_handle(), detail::c_text(value, name).get());
        return *this;
    }

    spec &with(sbx_status (*setter)(sbx_spec *, const char *, const char *, sbx_error **), std::string_view name,
               std::string_view value) {
        detail::call(setter, native_handle(), detail::c_text(name, "name").get(), detail::c_text(value, "value").get());
        return *this;
    }
};

/// Which sandboxes client::list() lists: those that fit everything that is set. Setters give the filter back, so that
/// they can be chained. They throw invalid_argument_error for text that is not UTF-8.
class filter : public handle<sbx_filter> {
public:
    /// All sandboxes of the namespace, whoever owns them.
    filter() : handle(detail::make(sbx_filter_new)) {}

    using handle::handle;

    /// Only those of this owner.
    filter &set_owner(std::string_view owner) {
        detail::call(sbx_filter_set_owner, native_handle(), detail::c_text(owner, "owner").get());
        return *this;
    }

    /// Only those whose Pod has this Kubernetes label with this value. Of several labels, all must be there.
    filter &set_label(std::string_view name, std::string_view value) {
        detail::call(sbx_filter_set_label, native_handle(), detail::c_text(name, "name").get(),
                     detail::c_text(value, "value").get());
        return *this;
    }

    /// Only those in this phase; called several times, in one of these.
    filter &add_phase(phase which) {
        detail::call(sbx_filter_add_phase, native_handle(), static_cast<std::int32_t>(which));
        return *this;
    }

    /// Only those that were created longer ago than this. Kubernetes tells that time in whole seconds, and the API
    /// server's clock tells how long ago it was.
    filter &set_older_than(seconds age) {
        detail::call(sbx_filter_set_older_than, native_handle(), detail::exact_seconds(age, "age"));
        return *this;
    }

    /// Only those that were created no longer ago than this, which is all that set_older_than() with the same age
    /// leaves out.
    filter &set_younger_than(seconds age) {
        detail::call(sbx_filter_set_younger_than, native_handle(), detail::exact_seconds(age, "age"));
        return *this;
    }
};

/// What has become of a sandbox.
struct change {
    /// What has become of it.
    change_kind kind;
    /// The sandbox as it is now, or as it was last.
    ::sandbox::info info;
};

/// The changes of sandboxes, made by client::watch(). First all that fit are told as added, the oldest first, then each
/// change. After a lost connection or a restart of the API server it goes on, and tells what has changed meanwhile;
/// what came and went in between is not told. May be used from several threads, of which each change goes to one.
/// Destroying it ends the watch.
class changes : public handle<sbx_changes> {
public:
    using handle::handle;

    /// Waits for the next change, at most for this time: then there is none. permission_denied_error if the client may
    /// not list and watch Pods.
    std::optional<change> next(std::optional<seconds> timeout = std::nullopt) const {
        sbx_change_kind kind = SBX_CHANGE_ADDED;
        sbx_info *info = nullptr;
        detail::call(sbx_changes_next, native_handle(), detail::optional_seconds(timeout, "timeout"), &kind, &info);
        if (info == nullptr)
            return std::nullopt;
        return change{static_cast<change_kind>(kind),
                      ::sandbox::info(std::shared_ptr<const sbx_info>(info, sbx_info_free))};
    }

    /// Ends the watch: where other threads wait in next(), and later, it throws closed_error.
    void close() const noexcept { sbx_changes_close(native_handle()); }
};

/// A connection to Kubernetes and everything that its sandboxes share. May be used from several threads at once. When
/// it is destroyed its sandboxes stay, and boxes stay usable; its SSH sessions are closed when the last of all these is
/// destroyed. Destroying the last object of all clients also stops the library's threads, and waits up to 3 seconds for
/// them.
class client : public handle<sbx_client> {
public:
    /// Reads the service account or the kubeconfig. config_error if a setting is not allowed, or no way to authenticate
    /// was found.
    explicit client(const config &settings) : handle(detail::make(sbx_client_new, settings.native_handle())) {}

    using handle::handle;

    /// The same with config::from_env().
    [[nodiscard]] static client from_env() { return client(detail::make(sbx_client_new, nullptr)); }

    /// The namespace of this client's sandboxes.
    std::string namespace_name() const { return detail::text(sbx_client_namespace(native_handle())); }

    /// How many SSH sessions this client has to one sandbox at most: further calls wait for one, each in its thread.
    std::size_t max_sessions() const { return sbx_client_max_sessions(native_handle()); }

    /// How many HTTP requests this client has sent to the Kubernetes API server.
    std::uint64_t api_requests() const { return sbx_client_api_requests(native_handle()); }

    /// Creates a sandbox with the defaults; otherwise as create(const spec &).
    [[nodiscard]] box create() const { return created(nullptr); }

    /// Creates a sandbox and waits until it is ready for commands. A sandbox that fails to start is deleted again; one
    /// that starts is deleted with box::delete_sandbox(), or by a scoped_box.
    ///
    /// create_error with the cluster's verdict; quota_error; conflict_error if the name is taken; timed_out_error with
    /// the last known state; permission_denied_error and unavailable_error from the API server.
    [[nodiscard]] box create(const spec &what) const { return created(what.native_handle()); }

    /// A handle for the pool of this name, for sandboxes of this spec. It makes no API call. invalid_argument_error if
    /// the name (at most 36 lower-case letters, digits and '-'), the spec (which must not have a name) or the options
    /// are invalid.
    [[nodiscard]] ::sandbox::pool pool(std::string_view name, const spec &what = spec(),
                                       const pool_options &options = pool_options()) const {
        return ::sandbox::pool(detail::make(sbx_client_pool, native_handle(), detail::c_text(name, "name").get(),
                                            what.native_handle(), options.native_handle()));
    }

    /// Makes a handle for the existing sandbox of this name. It takes one API call, or none if the client's cache has
    /// the sandbox. not_found_error if there is none.
    [[nodiscard]] box attach(std::string_view name) const {
        return box(detail::make(sbx_client_attach, native_handle(), detail::c_text(name, "name").get()));
    }

    /// All sandboxes in the namespace, whoever owns them, the oldest first.
    std::vector<info> list() const { return listed(nullptr); }

    /// The sandboxes in the namespace that fit, the oldest first, and those of the same second by name. It takes one
    /// API call for every 500 that have the filter's owner and labels. invalid_argument_error if no Pod can have the
    /// owner or a label.
    std::vector<info> list(const filter &which) const { return listed(which.native_handle()); }

    /// The changes of the sandboxes in the namespace that fit, one after another: first all that there are, then what
    /// becomes of them. It is one watch of its own, and keeps what it has told last of each sandbox.
    /// invalid_argument_error if no Pod can have the owner or a label, or if the filter asks for an age, which changes
    /// by itself.
    [[nodiscard]] changes watch(const filter &which = filter()) const {
        return changes(detail::make(sbx_client_watch, native_handle(), which.native_handle()));
    }

    /// Deletes every sandbox in the namespace that has expired, whoever owns it, without waiting for the end of the
    /// Pods. Their names.
    std::vector<std::string> reap() const {
        const auto all = detail::make(sbx_client_reap, native_handle());
        std::vector<std::string> names;
        for (std::size_t index = 0; index < sbx_name_list_count(all.get()); index++)
            names.emplace_back(sbx_name_list_at(all.get(), index));
        return names;
    }

    /// Deletes a sandbox by name: attach() and box::delete_sandbox() in one. not_found_error if there is none of this
    /// name.
    void delete_sandbox(std::string_view name) const {
        detail::call(sbx_client_delete_sandbox, native_handle(), detail::c_text(name, "name").get());
    }

    /// An alias of delete_sandbox().
    void shutdown_sandbox(std::string_view name) const {
        detail::call(sbx_client_shutdown_sandbox, native_handle(), detail::c_text(name, "name").get());
    }

    /// Runs a command line in a sandbox by name: attach() and box::execute() in one. `line` is UTF-8 here.
    output execute_command(std::string_view name, std::string_view line) const {
        return output(detail::make(sbx_client_execute_command, native_handle(), detail::c_text(name, "name").get(),
                                   detail::c_text(line, "line").get()));
    }

    /// Copies a local file into a sandbox by name: attach() and box::upload_file() in one.
    std::uint64_t upload_file(std::string_view name, const std::filesystem::path &local,
                              std::string_view remote) const {
        std::uint64_t size = 0;
        detail::call(sbx_client_upload_file, native_handle(), detail::c_text(name, "name").get(),
                     detail::c_text(local.native(), "local").get(), detail::c_text(remote, "remote").get(), &size);
        return size;
    }

    /// Copies a file out of a sandbox by name: attach() and box::download_file() in one.
    std::uint64_t download_file(std::string_view name, std::string_view remote,
                                const std::filesystem::path &local) const {
        std::uint64_t size = 0;
        detail::call(sbx_client_download_file, native_handle(), detail::c_text(name, "name").get(),
                     detail::c_text(remote, "remote").get(), detail::c_text(local.native(), "local").get(), &size);
        return size;
    }

    /// Asks Kubernetes about a sandbox by name: one API call. not_found_error if there is none of this name.
    info get_sandbox_info(std::string_view name) const {
        return info(detail::make(sbx_client_get_sandbox_info, native_handle(), detail::c_text(name, "name").get()));
    }

    /// The SSH port of a sandbox by name, from the cache; the configured port for one that the cache does not know. 0
    /// if the name is not UTF-8.
    std::uint16_t ssh_port(std::string_view name) const {
        return sbx_client_ssh_port(native_handle(), detail::c_text(name, "name").get());
    }

private:
    std::vector<info> listed(const sbx_filter *which) const {
        const std::shared_ptr<const sbx_info_list> all = detail::make(sbx_client_list, native_handle(), which);
        std::vector<info> infos;
        infos.reserve(sbx_info_list_count(all.get()));
        // Each keeps the list.
        for (std::size_t index = 0; index < sbx_info_list_count(all.get()); index++)
            infos.emplace_back(std::shared_ptr<const sbx_info>(all, sbx_info_list_at(all.get(), index)));
        return infos;
    }

    box created(const sbx_spec *what) const { return box(detail::make(sbx_client_create, native_handle(), what)); }
};

} // namespace sandbox

#endif // SANDBOX_CLIENT_HPP
