//! What a pool lacks and what it has too much of, as its Pods tell. Nothing is asked or done here.
//!
//! A pool of n has the slots 0 to n-1. A member's name is made of the pool, the spec, its slot and a generation, which
//! is one more than the highest that is there in this slot. So all who fill the pool choose the same name for the same
//! gap, Kubernetes gives it to one of them, and nobody makes too many. A slot without any Pod begins with the time, so
//! that a name that somebody may still know does not come back.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cluster::{MemberState, Membership, Phase, PodSnapshot};
use crate::error::{Cause, Verdict};

/// The generation of a slot without any Pod goes up by one in this time.
const TICK: u64 = 64;
/// Near its change nobody begins in such a slot: the others may have another time still.
const NEAR: u64 = 2;
/// A member that would expire earlier is replaced, if its whole time is not short.
const REPLACE_BEFORE: Duration = Duration::from_secs(60);
/// How long Kubernetes may have heard nothing of a member's node.
const LOST: Duration = Duration::from_secs(30);

/// What is wanted of a pool.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) pool: &'a str,
    /// Stands for the spec.
    pub(super) spec: &'a str,
    pub(super) size: usize,
    pub(super) idle_lifetime: Duration,
    /// When this filler began, by the API server's clock. Of two specs, that of the later one holds.
    pub(super) since: SystemTime,
}

/// A gap in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pub(super) number: usize,
    pub(super) generation: u64,
}

impl Slot {
    pub(super) fn name(self, wanted: &Wanted<'_>) -> String {
        format!("{}-{}-{}-{:x}", wanted.pool, wanted.spec, self.number, self.generation)
    }

    /// The slot of a Pod of this pool and spec.
    fn of(name: &str, wanted: &Wanted<'_>) -> Option<Self> {
        let rest = name.strip_prefix(wanted.pool)?.strip_prefix('-')?.strip_prefix(wanted.spec)?.strip_prefix('-')?;
        let (number, generation) = rest.split_once('-')?;
        Some(Self { number: number.parse().ok()?, generation: u64::from_str_radix(generation, 16).ok()? })
    }
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan<'p> {
    pub(super) retire: Vec<&'p PodSnapshot>,
    pub(super) create: Vec<Slot>,
    /// Further slots can be begun in this time.
    pub(super) later: Option<Duration>,
    /// No node has room for a member that there is: another one would have none either.
    pub(super) full: Option<Verdict>,
    /// Somebody began to fill the pool from another spec after this one did.
    pub(super) is_superseded: bool,
    /// How long nothing has to be done if nothing changes.
    pub(super) next: Option<Duration>,
}

/// How many Pods of a pool there are by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    pub(super) ready: usize,
    pub(super) filling: usize,
    pub(super) claimed: usize,
    pub(super) ending: usize,
    pub(super) foreign: usize,
}

impl Census {
    pub(super) fn of(pods: &[PodSnapshot], spec: &str) -> Self {
        let mut census = Self::default();
        for (pod, member) in members(pods) {
            let count = match member.state {
                MemberState::Claimed => &mut census.claimed,
                _ if is_over(pod) => &mut census.ending,
                _ if member.spec != spec => &mut census.foreign,
                MemberState::Filling => &mut census.filling,
                MemberState::Ready => &mut census.ready,
            };
            *count += 1;
        }
        census
    }
}

pub(super) fn members(pods: &[PodSnapshot]) -> impl Iterator<Item = (&PodSnapshot, &Membership)> {
    pods.iter().filter_map(|pod| Some((pod, pod.membership.as_ref()?)))
}

/// Whether the Pod is being deleted or has ended.
pub(super) fn is_over(pod: &PodSnapshot) -> bool {
    matches!(pod.phase, Phase::Terminating | Phase::Succeeded | Phase::Failed)
}

/// How long before its expiry a member is replaced.
fn margin(idle_lifetime: Duration) -> Duration {
    REPLACE_BEFORE.min(idle_lifetime / 4)
}

impl<'p> Plan<'p> {
    pub(super) fn new(wanted: &Wanted<'_>, pods: &'p [PodSnapshot], now: SystemTime) -> Self {
        let mut plan = Self::default();
        let mut highest: HashMap<usize, u64> = HashMap::new();
        let mut population: HashMap<usize, &'p PodSnapshot> = HashMap::new();
        for (pod, member) in members(pods) {
            let slot = Slot::of(&pod.name, wanted);
            if let Some(slot) = slot {
                highest
                    .entry(slot.number)
                    .and_modify(|known| *known = slot.generation.max(*known))
                    .or_insert(slot.generation);
            }
            if member.state == MemberState::Claimed || pod.phase == Phase::Terminating {
                continue;
            }
            let is_ours = member.spec == wanted.spec;
            if !is_ours && (member.since, member.spec.as_str()) > (Some(wanted.since), wanted.spec) {
                plan.is_superseded = true;
                continue;
            }
            match (plan.left(wanted, pod, member, now), slot) {
                (Some(left), Some(slot)) if is_ours => {
                    plan.next = Some(plan.next.map_or(left, |next| next.min(left)));
                    plan.full = plan
                        .full
                        .take()
                        .or_else(|| pod.verdict.clone().filter(|verdict| verdict.cause == Cause::Unschedulable));
                    // Two in one slot are one too many.
                    match population.get(&slot.number) {
                        Some(other) if is_better(other, pod) => plan.retire.push(pod),
                        _ => plan.retire.extend(population.insert(slot.number, pod)),
                    }
                }
                _ => plan.retire.push(pod),
            }
        }
        if plan.is_superseded {
            // Those of the newer spec come in their place.
            plan.retire.clear();
        } else if plan.full.is_none() {
            plan.fill(wanted, &population, &highest, now);
        }
        plan
    }

    /// How long a member is good still; `None` if it is not.
    fn left(&self, wanted: &Wanted<'_>, pod: &PodSnapshot, member: &Membership, now: SystemTime) -> Option<Duration> {
        let is_lost = |since| now.duration_since(since).is_ok_and(|span| span >= LOST);
        if is_over(pod) || member.lost_since.is_some_and(is_lost) {
            return None;
        }
        let end = match member.state {
            MemberState::Filling => member.until?,
            _ => pod.expires_at?.checked_sub(margin(wanted.idle_lifetime))?,
        };
        end.duration_since(now).ok().filter(|left| !left.is_zero())
    }

    fn fill(
        &mut self,
        wanted: &Wanted<'_>,
        population: &HashMap<usize, &PodSnapshot>,
        highest: &HashMap<usize, u64>,
        now: SystemTime,
    ) {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (tick, place) = (seconds / TICK, seconds % TICK);
        let wait = match place {
            _ if place < NEAR => Some(NEAR - place),
            _ if place >= TICK - NEAR => Some(TICK - place + NEAR),
            _ => None,
        };
        let missing = wanted.size.saturating_sub(population.len());
        for number in (0..wanted.size).filter(|number| !population.contains_key(number)).take(missing) {
            match (highest.get(&number), wait) {
                (Some(highest), _) => self.create.push(Slot { number, generation: tick.max(highest + 1) }),
                (None, None) => self.create.push(Slot { number, generation: tick }),
                (None, Some(wait)) => self.later = Some(Duration::from_secs(wait)),
            }
        }
    }
}

/// Which of two members of one slot stays.
fn is_better(one: &PodSnapshot, other: &PodSnapshot) -> bool {
    let rank = |pod: &PodSnapshot| (pod.member_state() != Some(MemberState::Ready), pod.created_at, pod.name.clone());
    rank(one) <= rank(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    const HOUR: Duration = Duration::from_secs(3600);

    /// In the middle of a tick.
    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(TICK * 1000 + 30)
    }

    fn wanted(size: usize) -> Wanted<'static> {
        Wanted { pool: "p", spec: "0123", size, idle_lifetime: HOUR, since: now() }
    }

    fn member(slot: Slot, state: MemberState) -> PodSnapshot {
        let mut pod = testing::snapshot(&slot.name(&wanted(0)), &format!("{slot:?}{state:?}"));
        pod.expires_at = Some(now() + HOUR);
        pod.created_at = Some(now());
        let (since, until) = (Some(now()), Some(now() + HOUR));
        pod.membership =
            Some(Membership { pool: "p".into(), state, spec: "0123".into(), since, until, ..Membership::default() });
        pod
    }

    fn ready(number: usize, generation: u64) -> PodSnapshot {
        member(Slot { number, generation }, MemberState::Ready)
    }

    fn names<'p>(retire: &[&'p PodSnapshot]) -> Vec<&'p str> {
        retire.iter().map(|pod| pod.name.as_str()).collect()
    }

    #[test]
    fn gaps_are_filled_under_the_same_names_by_all() {
        let pods = [ready(0, 1000), member(Slot { number: 2, generation: 1005 }, MemberState::Claimed)];
        let plan = Plan::new(&wanted(3), &pods, now());
        let expected = [Slot { number: 1, generation: 1000 }, Slot { number: 2, generation: 1006 }];
        assert_eq!((plan.create, plan.retire.len()), (expected.to_vec(), 0));
        assert_eq!(expected[1].name(&wanted(3)), "p-0123-2-3ee");
        assert_eq!(Slot::of("p-0123-2-3ee", &wanted(0)), Some(expected[1]));
        for other in ["p-0123-2", "q-0123-2-3ee", "p-4567-2-3ee", "p-0123-x-3ee", "p0123-2-3ee"] {
            assert_eq!(Slot::of(other, &wanted(0)), None, "{other}");
        }
    }

    #[test]
    fn nobody_begins_in_an_empty_slot_while_the_others_may_have_another_time() {
        for (place, wait) in [(61, None), (62, Some(4)), (63, Some(3)), (0, Some(2)), (1, Some(1)), (2, None)] {
            let now = UNIX_EPOCH + Duration::from_secs(TICK * 1000 + place);
            let plan = Plan::new(&wanted(1), &[], now);
            assert_eq!((plan.create.len(), plan.later), (usize::from(wait.is_none()), wait.map(Duration::from_secs)));
            // One with a predecessor needs no time.
            let claimed = [member(Slot { number: 0, generation: 2000 }, MemberState::Claimed)];
            assert_eq!(Plan::new(&wanted(1), &claimed, now).create, [Slot { number: 0, generation: 2001 }]);
        }
    }

    #[test]
    fn what_ends_ages_or_goes_bad_is_retired_and_replaced() {
        let spoilt: [fn(&mut PodSnapshot, &mut Membership); 5] = [
            |pod, _| pod.phase = Phase::Failed,
            |pod, _| pod.expires_at = Some(now() + Duration::from_secs(59)),
            |pod, _| pod.expires_at = None,
            |_, member| member.lost_since = Some(now() - LOST),
            |_, member| (member.state, member.until) = (MemberState::Filling, Some(now())),
        ];
        for spoil in spoilt {
            let mut pod = ready(0, 1000);
            let mut membership = pod.membership.take().unwrap();
            spoil(&mut pod, &mut membership);
            pod.membership = Some(membership);
            let pods = [pod, ready(1, 1000)];
            let plan = Plan::new(&wanted(2), &pods, now());
            assert_eq!(names(&plan.retire), [pods[0].name.as_str()]);
            assert_eq!(plan.create, [Slot { number: 0, generation: 1001 }]);
        }
        // One that goes already has its name still.
        let going = PodSnapshot { phase: Phase::Terminating, ..ready(0, 1000) };
        let pods = [going];
        let plan = Plan::new(&wanted(1), &pods, now());
        assert_eq!((plan.retire.len(), plan.create), (0, vec![Slot { number: 0, generation: 1001 }]));
    }

    #[test]
    fn of_two_in_one_slot_the_ready_one_stays() {
        let pods = [member(Slot { number: 0, generation: 1000 }, MemberState::Filling), ready(0, 1001), ready(0, 1002)];
        let plan = Plan::new(&wanted(1), &pods, now());
        assert_eq!(names(&plan.retire), [pods[0].name.as_str(), pods[2].name.as_str()]);
        assert!(plan.create.is_empty());
    }

    #[test]
    fn a_larger_pool_than_wanted_stays() {
        let pods = [ready(1, 1), ready(5, 1)];
        let plan = Plan::new(&wanted(2), &pods, now());
        assert!(plan.retire.is_empty() && plan.create.is_empty());
        assert_eq!(Plan::new(&wanted(3), &pods, now()).create.len(), 1);
    }

    #[test]
    fn of_two_specs_that_of_the_later_filler_holds() {
        let foreign = |since| {
            let mut pod = ready(0, 1000);
            pod.name = "p-4567-0-3e8".into();
            let membership = pod.membership.take().unwrap();
            pod.membership = Some(Membership { spec: "4567".into(), since: Some(since), ..membership });
            pod
        };
        let old = [foreign(now() - HOUR)];
        let plan = Plan::new(&wanted(1), &old, now());
        assert_eq!((plan.retire.len(), plan.create.len(), plan.is_superseded), (1, 1, false));
        let new = [foreign(now() + HOUR), ready(0, 1000)];
        let plan = Plan::new(&wanted(2), &new, now());
        assert_eq!((plan.retire.len(), plan.create.len(), plan.is_superseded), (0, 0, true));
        let counts = Census { ready: 1, foreign: 1, ..Census::default() };
        assert_eq!(Census::of(&new, "0123"), counts);
    }

    #[test]
    fn a_full_cluster_is_not_asked_again() {
        let mut waits = member(Slot { number: 0, generation: 1000 }, MemberState::Filling);
        waits.phase = Phase::Pending;
        waits.verdict = Some(Verdict::new(Cause::Unschedulable, "Unschedulable", "no room"));
        let pods = [waits];
        let plan = Plan::new(&wanted(5), &pods, now());
        assert!(plan.create.is_empty() && plan.retire.is_empty());
        assert_eq!(plan.full.unwrap().message, "no room");
    }
}
