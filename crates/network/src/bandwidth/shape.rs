//! From a rate to the token bucket that gives it, and back.

use super::Rate;
use crate::route::qdisc::TokenBucket;

/// Ethernet's header, which the kernel counts with each packet.
const ETHERNET: u64 = 14;
/// The headers of TCP over IPv4, with the timestamps that every Linux sends.
const HEADERS: u64 = 52;
/// The bucket holds what flows in so many milliseconds: enough to make up for a timer that comes
/// late on a busy machine, too little to be seen in the average of a second.
const BURST_MILLISECONDS: u64 = 10;
/// So many packets fit into each bucket.
const LEAST_PACKETS: u64 = 2;
/// The queue holds what flows in so many milliseconds.
const QUEUE_MILLISECONDS: u64 = 50;
/// The least that a queue takes: the ten packets that a TCP connection begins with (RFC 6928), and as
/// many again. With much more, a connection over a slow link learns of a loss only after a second,
/// and by then has lost so much that it starts anew.
const LEAST_QUEUE: u64 = 32_768;
const MOST_QUEUE: u64 = 64 << 20;

/// Computes the bucket that gives programs the rate over a link with packets of this size.
pub(super) fn bucket(rate: Rate, mtu: u32) -> TokenBucket {
    let (on_wire, payload) = sizes(mtu);
    let bytes = u128::from(rate.bits()) * u128::from(on_wire);
    let bytes = bytes.div_ceil(u128::from(payload) * 8);
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    let flow = |milliseconds: u64| bytes.saturating_mul(milliseconds) / 1_000;
    let fit = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let burst = flow(BURST_MILLISECONDS).max(LEAST_PACKETS * on_wire);
    let queue = flow(QUEUE_MILLISECONDS).clamp(LEAST_QUEUE, MOST_QUEUE);
    TokenBucket {
        rate: bytes,
        burst: fit(burst),
        limit: fit(queue),
        mtu,
    }
}

/// Computes the rate that a bucket was made for: exactly, if it was a whole number of bytes.
pub(super) fn rate_of(bucket: &TokenBucket) -> Option<Rate> {
    let (on_wire, payload) = sizes(bucket.mtu);
    let bytes = u128::from(bucket.rate) * u128::from(payload) / u128::from(on_wire);
    let bytes = u64::try_from(bytes).ok()?;
    Rate::from_bits(bytes.checked_mul(8)?).ok()
}

/// Keeps the queue and lets it run empty.
pub(super) fn wide_open(bucket: &TokenBucket) -> TokenBucket {
    TokenBucket {
        rate: 1 << 36,
        burst: 1 << 30,
        ..*bucket
    }
}

/// Returns the bytes of a full-sized packet that the kernel counts, and those that a program sees.
fn sizes(mtu: u32) -> (u64, u64) {
    let mtu = u64::from(mtu).max(2 * HEADERS);
    (mtu + ETHERNET, mtu - HEADERS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_packets_payload_is_the_rate() {
        let bucket = bucket("100mbit".parse().unwrap(), 1500);
        assert_eq!(bucket.rate, 13_069_752); // 12.5 MB/s of 1448 in 1514 bytes
        assert_eq!(bucket.burst, 130_697);
        let slow = super::bucket("8kbit".parse().unwrap(), 1500);
        assert_eq!(slow.burst, 2 * 1514);
    }

    proptest! {
        #[test]
        fn rates_of_whole_bytes_are_read_back(bytes in 1_000_u64..125_000_000_000, mtu in 0_u32..70_000) {
            let rate = Rate::from_bits(bytes * 8).unwrap();
            prop_assert_eq!(rate_of(&bucket(rate, mtu)), Some(rate));
        }
    }
}
