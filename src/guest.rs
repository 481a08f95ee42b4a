//! How the guest, the main process of every sandbox, gets into a Pod.

use sandbox_protocol::ExitCode;

use crate::error::{Cause, Result, Verdict, stable_names};

/// Where the guest's image has the program, and where an image that brings the guest along has it. It can only be
/// executed.
pub(crate) const IN_IMAGE: &str = "/sandbox-guest";
/// The same program beside it, readable: to be copied, and for gVisor, which executes only what the user may read.
pub(crate) const READABLE_IN_IMAGE: &str = "/sandbox-guest-readable";
/// Where the guest is mounted in other images.
pub(crate) const MOUNT: &str = "/.sandbox";

/// The guest's file in its image.
pub(crate) fn in_image(is_readable: bool) -> &'static str {
    if is_readable { READABLE_IN_IMAGE } else { IN_IMAGE }
}

/// How the guest gets into the Pod, for [`Config::guest`](crate::Config::guest).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Guest {
    /// [`Guest::Image`] where neither the spec nor the configuration names an image, since the default one brings the
    /// guest along; else [`Guest::Volume`] where the API server's version is 1.35 or later; else [`Guest::Copy`].
    #[default]
    Auto,
    /// The sandbox's image has it as `/sandbox-guest`.
    Image,
    /// The guest's image is mounted as a volume. Requires Kubernetes 1.35 and a container runtime that supports image
    /// volumes, such as containerd 2.1.
    Volume,
    /// A container of the guest's image copies it into an empty volume before the sandbox starts. Works everywhere, and
    /// takes the longest.
    Copy,
}

stable_names!(Guest, "way of the guest into a Pod", {
    Auto => "auto",
    Image => "image",
    Volume => "volume",
    Copy => "copy",
});

impl Guest {
    /// The way for one Pod.
    pub(crate) fn resolve(self, names_image: bool, has_image_volumes: impl FnOnce() -> Result<bool>) -> Result<Self> {
        Ok(match self {
            Self::Auto if !names_image => Self::Image,
            Self::Auto if has_image_volumes()? => Self::Volume,
            Self::Auto => Self::Copy,
            given => given,
        })
    }

    /// The guest's file in the sandbox.
    pub(crate) fn program(self, is_readable: bool) -> String {
        match self {
            Self::Auto | Self::Image => in_image(is_readable).to_owned(),
            Self::Volume => format!("{MOUNT}{}", in_image(is_readable)),
            // The copy has the permissions that are needed.
            Self::Copy => format!("{MOUNT}{IN_IMAGE}"),
        }
    }

    /// What to tell about a creation that failed with this verdict, if it may be because of the way.
    pub(crate) fn advice(self, verdict: &Verdict, guest_image: &str) -> Option<String> {
        let concerns_guest = match verdict.cause {
            // Unless it ran, and said why it can't go on.
            Cause::Configuration => !verdict.message.contains(&format!("exit code {}", ExitCode::CannotStart.code())),
            Cause::Rejected => self == Self::Volume,
            Cause::Exited => self == Self::Copy && verdict.message.contains("sandbox-guest"),
            Cause::ImagePull => self != Self::Image && verdict.message.contains(guest_image),
            _ => false,
        };
        let other_way = match self {
            _ if verdict.message.contains("permission denied") => {
                "it can be executed but not read; gVisor, which can't do that, is to be named as the spec's runtime class"
            }
            Self::Auto | Self::Image => "set SANDBOX_GUEST=volume or copy if the image has no /sandbox-guest",
            Self::Volume => {
                "set SANDBOX_GUEST_IMAGE to the image that has the guest, or SANDBOX_GUEST=copy if the cluster has no image volumes"
            }
            Self::Copy => {
                "set SANDBOX_GUEST_IMAGE to the image that has the guest, or SANDBOX_GUEST=image if the sandbox's own has it"
            }
        };
        concerns_guest.then(|| {
            format!(
                "the guest came by the way '{self}' from {} ({other_way})",
                match self {
                    Self::Auto | Self::Image => "the sandbox's image",
                    Self::Volume | Self::Copy => guest_image,
                }
            )
        })
    }
}
