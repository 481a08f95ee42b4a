//! How the guest, the main process of every sandbox, gets into a Pod.

use crate::error::{Result, stable_names};

/// Where the guest's image has its one file, and where an image that brings the guest along has it.
pub(crate) const IN_IMAGE: &str = "/sandbox-guest";
/// Where it is mounted in other images, and its file there.
pub(crate) const MOUNT: &str = "/.sandbox";
pub(crate) const MOUNTED: &str = "/.sandbox/sandbox-guest";

/// How the guest gets into the Pod, for [`Config::guest`](crate::Config::guest).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Guest {
    /// [`Guest::Image`] where neither the spec nor the configuration names an image, since the default one brings the guest along;
    /// else [`Guest::Volume`] where the API server's version is 1.35 or later; else [`Guest::Copy`].
    #[default]
    Auto,
    /// The sandbox's image has it as `/sandbox-guest`.
    Image,
    /// The guest's image is mounted as a volume. Takes Kubernetes 1.35 and a container runtime that can, such as containerd 2.1.
    Volume,
    /// A container of the guest's image copies it into an empty volume before the sandbox starts. Works everywhere, and takes the
    /// longest.
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
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Auto | Self::Image => IN_IMAGE,
            Self::Volume | Self::Copy => MOUNTED,
        }
    }

    /// What else to try if this way fails.
    pub(crate) fn other_way(self) -> &'static str {
        match self {
            Self::Auto | Self::Image => "set SANDBOX_GUEST=volume or copy if the image has no /sandbox-guest",
            Self::Volume => "set SANDBOX_GUEST=copy if the cluster has no image volumes",
            Self::Copy => "set SANDBOX_GUEST=image if the image has /sandbox-guest",
        }
    }
}
