// The scenarios of sandboxes, settings and errors.

#include "conformance.hpp"

void conformance::life() {
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

    const sandbox::client second(settings(owner_).set_transport(sandbox::transport::exec));
    const auto attached = second.attach(name_);
    CHECK(attached.uid() == box().uid() && !attached.timings());
    CHECK(attached.execute("echo here").check().out() == "here\n");
    const auto expiry = attached.renew(20min);
    CHECK(expiry > *info.expires_at() && box().info().expires_at() == expiry);
    const std::string key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVV a person";
    box().authorize_key(key, 100s);
    const auto keys = box().authorized_keys();
    CHECK(keys.size() == 1 && keys[0].key == key && keys[0].remaining > 0s && keys[0].remaining <= 100s);
    CHECK(box().revoke_key(key) && !box().revoke_key(key));
    FAILS(invalid_argument_error, box().authorize_key("no key"));
    const sandbox::usage usage = box().usage();
    CHECK(usage.cpu > 0s && usage.memory > 0u && usage.processes > 0u && usage.disk > 0u && usage.sent > 0u);
    CHECK(usage.guest_memory > 0u && usage.commands == 0 && usage.connections > 0);
    const auto timings = box().timings();
    CHECK(timings && timings->accepted > 0s && timings->accepted <= timings->started);
    CHECK(timings->started <= timings->logged_in && timings->logged_in < 60s);
    CHECK(client_.api_requests() > 0);
}

void conformance::by_name() {
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

void conformance::errors() {
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
    CHECK(kinds.size() == 35);
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

void conformance::use_after_close() {
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

void conformance::fleet() {
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
    const auto found = client.list(sandbox::filter().set_owner(owner));
    CHECK(found.size() == 3);
    CHECK(std::is_sorted(found.begin(), found.end(),
                         [](const auto &a, const auto &b) { return a.created_at() < b.created_at(); }));
    const auto golden = client.list(sandbox::filter().set_owner(owner).set_label("tier", "gold"));
    CHECK(golden.size() == 1 && golden.front().name() == first->name());
    sandbox::filter young;
    young.set_owner(owner).add_phase(sandbox::phase::pending).add_phase(sandbox::phase::running).set_younger_than(1h);
    CHECK(client.list(young).size() == 3);
    CHECK(client.list(sandbox::filter().set_owner(owner).add_phase(sandbox::phase::failed)).empty());
    CHECK(client.list(sandbox::filter().set_owner(owner).set_older_than(1h)).empty());
    CHECK(has(FAILS(invalid_argument_error, client.list(sandbox::filter().set_label("tier", "a,b"))), "a,b"));
    const auto changes = client.watch(sandbox::filter().set_owner(owner));
    for (int added = 0; added < 3; added++) {
        const auto change = changes.next(1h);
        CHECK(change && change->kind == sandbox::change_kind::added && change->info.owner() == owner);
    }
    CHECK(has(FAILS(invalid_argument_error, client.watch(sandbox::filter().set_older_than(1h))), "age"));
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
    for (int removed = 0; removed < 3;) {
        const auto change = changes.next(1h);
        CHECK(change && change->kind != sandbox::change_kind::added);
        removed += change->kind == sandbox::change_kind::removed ? 1 : 0;
    }
    CHECK(!changes.next(10ms));
    changes.close();
    FAILS(closed_error, changes.next());
}

void conformance::doctor() {
    const auto all = sandbox::diagnose(settings(owner_));
    CHECK(all.state != sandbox::check_state::failure && all.checks.size() == 14 && !all.summary.empty());
    CHECK(std::all_of(all.checks.begin(), all.checks.end(),
                      [](const auto &one) { return !one.name.empty() && !one.found.empty(); }));
    const auto absent = sandbox::diagnose(settings(owner_).set_namespace("no-such-namespace"), "namespace");
    CHECK(absent.state == sandbox::check_state::failure && absent.checks.size() == 1);
    const auto &one = absent.checks.front();
    CHECK(one.name == "namespace" && one.state == absent.state);
    CHECK(one.fix.find("create namespace") != std::string::npos);
    CHECK(sandbox::diagnose("config").state == sandbox::check_state::ok);
    FAILS(invalid_argument_error, sandbox::diagnose("no-such-check"));
}

void conformance::settings_() {
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
    spec.set_disk("1Gi").set_lifetime(10min).set_hard_limit(1h).set_idle_timeout(10min).set_pod_template("{}");
    spec.set_unschedulable_grace(5s).set_node_selector("kubernetes.io/os", "linux").set_user_from_cluster();
    sandbox::spec().set_runtime_class("gvisor").set_hard_limit(std::nullopt).set_lifetime(std::nullopt);
    const sandbox::scoped_box made(client.create(spec));
    CHECK(made->ssh_port() == 2222 && made->info().label("a") == "b");
    CHECK(made->execute("echo $A").check().out() == "b\n");

    CHECK(has(FAILS(invalid_argument_error, client.create(sandbox::spec().set_idle_timeout(0s))), "idle timeout"));
    CHECK(has(FAILS(create_error, client.create(sandbox::spec().set_commands_as("sandbox"))), "runAsNonRoot"));

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

void conformance::end() {
    box().delete_sandbox();
    FAILS(not_found_error, client_.get_sandbox_info(name_));
    FAILS(closed_error, box().execute("true"));
    const auto all = client_.list();
    CHECK(std::none_of(all.begin(), all.end(), [&](const auto &one) { return one.owner() == owner_; }));
}
