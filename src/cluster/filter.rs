//! Which sandboxes are meant.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

use super::names::{MANAGED_BY, MANAGER, OWNER};
use super::pod::{Phase, PodSnapshot};
use crate::config;
use crate::error::{Error, ErrorKind, Result};

/// Which sandboxes [`Client::find`](crate::Client::find) finds: those that fit everything that is set here, so that a
/// new filter means all sandboxes of the namespace.
///
/// ```
/// use std::time::Duration;
/// use sandbox::{Filter, Phase};
///
/// let forgotten = Filter::new().owner("ci").phase(Phase::Running).older_than(Duration::from_secs(86_400));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Filter {
    owner: Option<String>,
    labels: BTreeMap<String, String>,
    phases: Vec<Phase>,
    older_than: Option<Duration>,
    younger_than: Option<Duration>,
}

impl Filter {
    /// All sandboxes of the namespace, whoever owns them.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only those of this owner.
    #[must_use]
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// Only those whose Pod has this Kubernetes label with this value. Of several labels, all must be there.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Only those in this phase; called several times, in one of these.
    #[must_use]
    pub fn phase(mut self, phase: Phase) -> Self {
        self.phases.push(phase);
        self
    }

    /// Only those that were created longer ago than this. Kubernetes tells that time in whole seconds, and the API
    /// server's clock tells how long ago it was.
    #[must_use]
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(age);
        self
    }

    /// Only those that were created no longer ago than this, which is all that [`older_than`](Self::older_than) with
    /// the same age leaves out.
    #[must_use]
    pub fn younger_than(mut self, age: Duration) -> Self {
        self.younger_than = Some(age);
        self
    }

    /// What Kubernetes chooses by.
    pub(super) fn selector(&self) -> Result<String> {
        let mut selector = format!("{MANAGED_BY}={MANAGER},{OWNER}");
        let owner = self.owner.as_ref().map(|owner| (OWNER, owner));
        for (name, value) in owner.into_iter().chain(self.labels.iter().map(|(name, value)| (name.as_str(), value))) {
            // A comma would begin another condition.
            if !is_label_name(name) || !(config::label(value).is_ok() || value.is_empty()) {
                let message = format!("no Pod can have the label {name:?} with the value {value:?}");
                return Err(Error::new(ErrorKind::InvalidArgument, message));
            }
            let _ = write!(selector, ",{name}={value}");
        }
        Ok(selector)
    }

    /// Whether one that has the labels is in the right phase.
    pub(super) fn takes_phase(&self, phase: Phase) -> bool {
        self.phases.is_empty() || self.phases.contains(&phase)
    }

    /// Whether it matters how old they are.
    pub(super) fn asks_for_age(&self) -> bool {
        self.older_than.is_some() || self.younger_than.is_some()
    }

    /// Whether one that has the labels is of the right age.
    pub(super) fn takes_age(&self, pod: &PodSnapshot, now: SystemTime) -> bool {
        // One that seems to come from the future is new.
        let age = pod.created_at.map(|created| now.duration_since(created).unwrap_or_default());
        let Some(age) = age else { return !self.asks_for_age() };
        self.older_than.is_none_or(|least| age > least) && self.younger_than.is_none_or(|most| age <= most)
    }
}

/// A name that may have a prefix.
fn is_label_name(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => {
            let is_of_domain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            let is_part = |part: &str| config::label(part).is_ok() && part.bytes().all(is_of_domain);
            config::label(name).is_ok() && prefix.len() <= 253 && prefix.split('.').all(is_part)
        }
        None => config::label(text).is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::testing;

    #[test]
    fn kubernetes_chooses_by_owner_and_labels() {
        let all = "app.kubernetes.io/managed-by=sandbox,sandbox/owner";
        assert_eq!(Filter::new().phase(Phase::Failed).selector().unwrap(), all);
        let some = Filter::new().label("run", "7").owner("me").label("example.org/team", "a.b_c").label("empty", "");
        assert_eq!(some.selector().unwrap(), format!("{all},sandbox/owner=me,empty=,example.org/team=a.b_c,run=7"));
    }

    #[test]
    fn what_is_no_label_is_refused_and_is_no_other_condition() {
        let labels = [
            ("a", "b,c"),
            ("a", "b c"),
            ("a,b", "c"),
            ("!a", ""),
            ("", "a"),
            ("a/b/c", "d"),
            ("/a", "b"),
            ("A/b", "c"),
        ];
        for (name, value) in labels.into_iter().chain([("a in (b)", "c"), ("a", "-"), ("a", &"b".repeat(64))]) {
            let error = Filter::new().label(name, value).selector().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
            assert!(error.message().contains(&format!("{value:?}")), "{error}");
        }
        assert!(Filter::new().owner("me,you").selector().is_err());
    }

    #[test]
    fn phases_and_ages_are_told_apart() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let age = Duration::from_secs(60);
        let (older, younger) = (Filter::new().older_than(age), Filter::new().younger_than(age));
        let mut pod = testing::snapshot("a", "1");
        assert!(!older.takes_age(&pod, now) && !younger.takes_age(&pod, now) && Filter::new().takes_age(&pod, now));
        for (seconds, is_older) in [(0, false), (60, false), (61, true)] {
            pod.created_at = Some(now - Duration::from_secs(seconds));
            assert_eq!((older.takes_age(&pod, now), younger.takes_age(&pod, now)), (is_older, !is_older));
        }
        pod.created_at = Some(now + age);
        assert!(younger.takes_age(&pod, now) && !older.takes_age(&pod, now));

        let ended = Filter::new().phase(Phase::Succeeded).phase(Phase::Failed);
        assert!(ended.takes_phase(Phase::Failed) && ended.takes_phase(Phase::Succeeded));
        assert!(!ended.takes_phase(Phase::Running) && Filter::new().takes_phase(Phase::Running));
    }
}
