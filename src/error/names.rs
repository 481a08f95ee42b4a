//! Stable names of the values that people write into logs, settings and files.

/// Gives an enum its names in `snake_case`: `as_str`, `Display` and `FromStr`. They never change, unlike what `Debug`
/// writes.
macro_rules! stable_names {
    ($name:ident, $what:literal, { $($variant:ident => $text:literal),+ $(,)? }) => {
        impl $name {
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),+];

            #[doc = concat!("The stable name of this ", $what, ", which its `FromStr` takes and its `Display` writes.")]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::error::Error;

            /// The value of a stable name, which is written exactly so.
            fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(crate::error::unknown_name(text, $what, &[$($text),+])),
                }
            }
        }

        #[cfg(feature = "serde")]
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

pub(crate) use stable_names;

#[cfg(test)]
mod tests {
    use std::fmt::{Debug, Display};
    use std::str::FromStr;

    use crate::{Cause, ChangeKind, CheckState, Error, ErrorKind, Guest, LogLevel, OnMiss, Origin, Phase, Transport};

    /// Every name is read back as its own value, and is what `Debug` writes, with underscores.
    fn check<T: Copy + Debug + Display + PartialEq + FromStr<Err = Error>>(all: &[T]) {
        for value in all {
            assert_eq!(value.to_string().parse::<T>().unwrap(), *value);
            let plain: String = value.to_string().split('_').collect();
            assert_eq!(plain, format!("{value:?}").to_lowercase());
        }
        assert_eq!("Pending".parse::<T>().unwrap_err().kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn every_name_is_read_back_and_no_other() {
        check(ErrorKind::ALL);
        check(Cause::ALL);
        check(Phase::ALL);
        check(Transport::ALL);
        check(CheckState::ALL);
        check(Guest::ALL);
        check(LogLevel::ALL);
        check(Origin::ALL);
        check(OnMiss::ALL);
        check(ChangeKind::ALL);
        assert_eq!(format!("{:>10}|", ErrorKind::Busy), "      busy|");
        let error = "a\nb".parse::<Transport>().unwrap_err();
        assert_eq!(error.to_string(), r"'a\nb' is not a valid transport; it must be one of auto, direct, tunnel, exec");
    }

    #[cfg(feature = "serde")]
    #[test]
    fn values_are_serialized_by_name() {
        let verdict = crate::Verdict::new(Cause::OutOfMemory, "OOMKilled", "");
        let json = serde_json::json!({ "cause": "out_of_memory", "reason": "OOMKilled", "message": "" });
        assert_eq!(serde_json::to_value(verdict).unwrap(), json);
        let mut report = crate::TreeReport::default();
        report.notes.push(crate::Note { path: "a".into(), text: "a socket".into() });
        assert_eq!(serde_json::to_value(report).unwrap()["notes"][0]["path"], "a");
    }
}
