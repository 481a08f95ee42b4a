// The scenario of sandboxes that are kept ready.

#include "conformance.hpp"

void conformance::pool() {
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
