//! The scenario of sandboxes that are kept ready.

use super::*;

pub(crate) fn pool(world: &World) {
    let minute = Duration::from_secs(60);
    let options = PoolOptions::new().size(2).idle_lifetime(10 * minute).creates_at_once(2).creates_per_second(20.0);
    let name = format!("pool-{}", std::process::id());
    let open = |client: &Client, options: &PoolOptions| client.pool(&name, &SandboxSpec::new(), options).unwrap();
    let filler = open(&world.client, &options);
    assert_eq!((filler.name(), filler.status().unwrap().ready), (&*name, 0));
    fails(ErrorKind::PoolEmpty, &name, filler.claim(&Claim::new().on_miss(OnMiss::Fail)));
    let instead = filler.claim(&Claim::new()).unwrap();
    assert_eq!(instead.timings().unwrap().origin, Origin::PoolMiss);
    instead.delete().unwrap();
    assert_eq!(filler.fill().unwrap().created, 2);
    assert_eq!(filler.fill().unwrap(), Default::default());

    let other = Client::new(config(&format!("{}-other", world.owner))).unwrap();
    let pool = open(&other, &PoolOptions::new());
    let claim = Claim::new().env("TASK", "17").label("of", "a-pool").annotation("note", "a note").lifetime(5 * minute);
    let claim = claim.owner(format!("{}-claimed", world.owner)).file("/tmp/task", "a task").on_miss(OnMiss::Fail);
    let claimed = pool.claim(&claim).unwrap();
    assert_eq!(claimed.timings().unwrap().origin, Origin::Pool);
    assert_eq!(claimed.execute("echo $TASK; cat /tmp/task").unwrap().stdout, b"17\na task");
    let info = claimed.info().unwrap();
    assert_eq!((&*info.labels["of"], info.owner), ("a-pool", format!("{}-claimed", world.owner)));
    let left = info.expires_at.unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(left > 4 * minute && left < 6 * minute, "{left:?}");
    let status = filler.status().unwrap();
    assert_eq!((status.ready, status.claimed, status.filling, status.foreign), (1, 1, 0, 0));
    assert!(status.oldest.is_some() && status.held.is_none() && status.ending == 0);

    let named = SandboxSpec::new().name("a");
    fails(ErrorKind::InvalidArgument, "name", world.client.pool(&name, &named, &options));
    let endless = PoolOptions::new().size(usize::MAX);
    fails(ErrorKind::InvalidArgument, "at most", world.client.pool(&name, &SandboxSpec::new(), &endless));

    assert_eq!(filler.drain().unwrap(), 1);
    let keeper = thread::scope(|scope| {
        let waiter = scope.spawn(|| pool.claim(&Claim::new().on_miss(OnMiss::Wait)).unwrap());
        while pool.counters().waiting == 0 {
            thread::sleep(Duration::from_millis(10));
        }
        let keeper = open(&world.client, &options.clone().size(1).keep_filled(true));
        let waited = waiter.join().unwrap();
        assert_eq!(waited.timings().unwrap().origin, Origin::PoolWait);
        waited.delete().unwrap();
        keeper
    });
    let counters = pool.counters();
    assert_eq!((counters.hits, counters.misses, counters.waiting, counters.bad), (1, 1, 0, 0));
    assert_eq!((filler.counters().created, filler.counters().retired), (2, 1));
    keeper.remove().unwrap();
    assert!(claimed.execute("true").unwrap().status.success());
    claimed.delete().unwrap();
}
