//! Where a device is: the part of a `SPEC` after `device:`.

use std::fmt;

use crate::{Error, ErrorKind};

/// Who hands out the memory of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Runtime {
    /// NVIDIA's driver API.
    Cuda,
    /// OpenCL, whichever vendor's.
    OpenCl,
}

impl Runtime {
    /// The word used in a `SPEC`, in tables and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::OpenCl => "opencl",
        }
    }

    /// The shared library that is loaded at run time.
    pub const fn library(self) -> &'static str {
        match self {
            Self::Cuda => "libcuda.so.1",
            Self::OpenCl => "libOpenCL.so.1",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A device, as a `SPEC` names it.
///
/// ```
/// use tiermem_tiers::provider::device::Location;
/// let location = Location::parse("opencl:0:1").unwrap();
/// assert_eq!(location, Location::OpenCl { platform: 0, device: 1 });
/// assert_eq!(location.to_string(), "opencl:0:1");
/// assert!(Location::parse("cuda").is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Location {
    /// `cuda:N`.
    Cuda {
        /// The driver's number of the device, as `CUDA_VISIBLE_DEVICES` leaves it.
        device: u32,
    },
    /// `opencl:P:D`.
    OpenCl {
        /// Number of the platform, in the ICD loader's order.
        platform: u32,
        /// Number of the device in its platform.
        device: u32,
    },
    /// `emulated`: host memory that poses as a device.
    Emulated,
}

impl Location {
    /// Reads what stands after `device:` in a `SPEC`.
    ///
    /// # Errors
    /// `Unsuitable`, with the form that was expected.
    pub fn parse(text: &str) -> Result<Self, Error> {
        const FORM: Error = Error::new(ErrorKind::Unsuitable {
            reason: "a device is written `cuda:N`, `opencl:PLATFORM:DEVICE` or `emulated`, as in `gpu=device:cuda:0`",
        });
        // `u32::from_str` also takes a plus sign, which nobody means here.
        let number = |part: &str| match part.starts_with('+') {
            true => Err(FORM),
            false => part.parse::<u32>().map_err(|_| FORM),
        };
        let mut parts = text.split(':');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("cuda"), Some(device), None, None) => Ok(Self::Cuda { device: number(device)? }),
            (Some("opencl"), Some(platform), Some(device), None) => {
                Ok(Self::OpenCl { platform: number(platform)?, device: number(device)? })
            }
            (Some("emulated"), None, None, None) => Ok(Self::Emulated),
            _ => Err(FORM),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cuda { device } => write!(f, "cuda:{device}"),
            Self::OpenCl { platform, device } => write!(f, "opencl:{platform}:{device}"),
            Self::Emulated => f.write_str("emulated"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_location_reads_back_as_written() {
        for text in ["cuda:0", "cuda:15", "opencl:0:0", "opencl:2:1", "emulated"] {
            assert_eq!(Location::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_locations_are_refused_with_the_right_form() {
        for text in [
            "",
            "cuda",
            "cuda:",
            "cuda:x",
            "cuda:-1",
            "cuda:+1",
            "cuda:0:0",
            "opencl:0",
            "opencl:0:0:0",
            "emulated:0",
            "CUDA:0",
            "rocm:0",
            "cuda:4294967296",
        ] {
            let why = Location::parse(text).expect_err(text).to_string();
            assert!(why.contains("cuda:N"), "{text:?}: {why}");
        }
    }
}
