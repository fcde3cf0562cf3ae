//! What a pull tells its client.

use std::sync::atomic::Ordering;
use std::time::Duration;

use api::image::{Progress, ProgressDetail};

use super::layer::Way;
use super::plan::Planned;
use super::{ProgressSender, tell};
use crate::error::Result;

/// How often a layer's progress is told.
const TELL: Duration = Duration::from_millis(100);
/// Characters of a bar in Docker's messages.
const BAR: u64 = 50;

/// Tells what happens to one layer, in the order that Docker's clients know.
pub(super) struct Teller<'a> {
    id: &'a str,
    total: u64,
    progress: &'a ProgressSender,
    downloading: bool,
    downloaded: bool,
}

impl<'a> Teller<'a> {
    pub(super) fn new(layer: &'a Planned, progress: &'a ProgressSender) -> Self {
        Self {
            id: layer.descriptor.digest.short(),
            total: layer.descriptor.size,
            progress,
            downloading: false,
            downloaded: false,
        }
    }

    /// Tells how far a layer is until it is there.
    pub(super) async fn follow(&mut self, way: &Way) -> Result<()> {
        let mut landed = std::pin::pin!(way.landed());
        loop {
            match tokio::time::timeout(TELL, &mut landed).await {
                Ok(end) => {
                    end?;
                    break;
                }
                Err(_) => self.figures(way).await?,
            }
        }
        if way.blob().is_some() {
            self.complete().await?;
        }
        Ok(())
    }

    async fn figures(&mut self, way: &Way) -> Result<()> {
        if let Some(blob) = way.blob() {
            let received = blob.received();
            if !blob.is_ready() && received > 0 && received < self.total {
                self.downloading = true;
                let message = moving(self.id, "Downloading", received, self.total);
                return tell(self.progress, message).await;
            }
            if !blob.is_ready() {
                return Ok(());
            }
            self.complete().await?;
        }
        let Way::Layer(flight) = way else {
            return Ok(());
        };
        let unpacked = flight.cargo.unpacked.load(Ordering::Relaxed);
        if unpacked == 0 {
            return Ok(());
        }
        let message = moving(self.id, "Extracting", unpacked.min(self.total), self.total);
        tell(self.progress, message).await
    }

    /// Tells once that the blob has come.
    async fn complete(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.downloaded, true) {
            return Ok(());
        }
        if self.downloading {
            let verifying = Progress::of(self.id, "Verifying Checksum");
            tell(self.progress, verifying).await?;
        }
        tell(self.progress, Progress::of(self.id, "Download complete")).await
    }
}

/// A message with a bar, for clients that draw it and for those that print it as it is.
pub(super) fn moving(id: &str, status: &str, current: u64, total: u64) -> Progress {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let detail = ProgressDetail {
        current: signed(current),
        total: signed(total),
        ..ProgressDetail::default()
    };
    Progress {
        progress_detail: Some(detail),
        progress: bar(current, total),
        ..Progress::of(id, status)
    }
}

/// The bar as Docker writes it into its messages.
fn bar(current: u64, total: u64) -> String {
    let filled = (u128::from(current) * u128::from(BAR) / u128::from(total.max(1))).min(50);
    let filled = usize::try_from(filled).unwrap_or(50);
    let (done, rest) = ("=".repeat(filled), " ".repeat(50 - filled));
    let (current, total) = (size(current), size(total));
    format!("[{done}>{rest}] {current:>8}/{total}")
}

/// A size in decimal units with four digits, as Docker writes it.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut unit = 0;
    let mut scale = 1_u64;
    while unit + 1 < UNITS.len() && bytes / scale >= 1000 {
        scale *= 1000;
        unit += 1;
    }
    let whole = bytes / scale;
    let digits = match whole {
        0..10 => 3,
        10..100 => 2,
        100..1000 => 1,
        _ => 0,
    };
    let step = scale / 10_u64.pow(digits).min(scale);
    let rounded = (bytes + step / 2) / step * step;
    let fraction = format!("{:0width$}", rounded % scale, width = unit * 3);
    let digits = usize::try_from(digits).unwrap_or(0).min(fraction.len());
    let fraction = fraction[..digits].trim_end_matches('0');
    let point = if fraction.is_empty() || unit == 0 {
        ""
    } else {
        "."
    };
    let fraction = if unit == 0 { "" } else { fraction };
    format!("{}{point}{fraction}{}", rounded / scale, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_docker_s() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1_049_000, "1.049MB"),
            (29_720_000, "29.72MB"),
            (536_870_912, "536.9MB"),
            (2_000_000_000, "2GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn bars_are_docker_s() {
        assert_eq!(
            bar(1_000, 4_000),
            "[============>                                      ]      1kB/4kB"
        );
        let full = bar(4_000, 4_000);
        assert_eq!(full, format!("[{}>]      4kB/4kB", "=".repeat(50)));
        assert!(bar(1, 0).starts_with('['));
    }
}
