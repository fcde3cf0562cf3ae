//! Queueing disciplines and the filter that sends a link's incoming packets to another
//! (`linux/pkt_sched.h`, `pkt_cls.h`, `tc_act/tc_mirred.h`).

use super::abi::{
    AF_UNSPEC, RTM_DELQDISC, RTM_DELTFILTER, RTM_GETQDISC, RTM_GETTFILTER, RTM_NEWQDISC,
    RTM_NEWTFILTER,
};
use crate::netlink::abi::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_ECHO, NLM_F_EXCL, NLM_F_REPLACE,
};
use crate::netlink::{Attributes, Batch, Message, NetlinkError, Socket, find, integer_ne, text};

use rustix::io::Errno;

const HEADER: usize = 20;
const TC_H_ROOT: u32 = 0xffff_ffff;
const TC_H_CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const CLSACT_INGRESS: u32 = 0xffff_fff2;
const CLSACT_EGRESS: u32 = 0xffff_fff3;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_STATS2: u16 = 7;
const TCA_STATS_QUEUE: u16 = 3;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const TC_LINKLAYER_ETHERNET: u8 = 1;
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TC_U32_TERMINAL: u8 = 1;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;
const TC_ACT_STOLEN: i32 = 4;
const TCA_EGRESS_REDIR: i32 = 1;
const ETH_P_ALL: u16 = 3;

/// Marks what is ours among others' disciplines ("go").
const OUR_HANDLE: u32 = 0x676f_0000;
/// The priority of our filter, behind which others' may stand as well as before.
const OUR_PRIORITY: u32 = 0x676f;

/// A token bucket: `burst` bytes at once, then `rate` bytes a second; at most `limit` bytes wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenBucket {
    pub(crate) rate: u64,
    pub(crate) burst: u32,
    pub(crate) limit: u32,
    /// The MTU that the rate was computed for. The kernel keeps the field (a bound for bursts at a
    /// peak rate, of which there is none) and makes no use of it.
    pub(crate) mtu: u32,
}

/// The discipline at the root of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) ours: bool,
    pub(crate) bucket: Option<TokenBucket>,
    /// The bytes that wait.
    pub(crate) backlog: u32,
}

/// Who has filters on a link's incoming and outgoing packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Filters {
    /// The link that our filter sends incoming packets to; 0 when that is gone.
    pub(crate) redirect: Option<u32>,
    pub(crate) others: bool,
}

/// `struct tcmsg`.
fn header(link: u32, handle: u32, parent: u32, info: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[0] = AF_UNSPEC;
    bytes[4..8].copy_from_slice(&link.to_ne_bytes());
    bytes[8..12].copy_from_slice(&handle.to_ne_bytes());
    bytes[12..16].copy_from_slice(&parent.to_ne_bytes());
    bytes[16..].copy_from_slice(&info.to_ne_bytes());
    bytes
}

/// Sets or changes the token bucket at the root of a link; packets that wait go on waiting.
pub(crate) fn set_token_bucket(batch: &mut Batch, link: u32, bucket: &TokenBucket) {
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    let header = header(link, OUR_HANDLE, TC_H_ROOT, 0);
    let step = "set the rate of a link";
    batch.message(RTM_NEWQDISC, flags, &header, step, |qdisc| {
        qdisc.text(TCA_KIND, "tbf");
        qdisc.nest(TCA_OPTIONS, |options| write_bucket(options, bucket));
    });
}

fn write_bucket(options: &mut Attributes<'_>, bucket: &TokenBucket) {
    let mut rate = [0; 12]; // struct tc_ratespec
    // with a known link layer the kernel needs no table of the times that packet sizes take
    rate[1] = TC_LINKLAYER_ETHERNET;
    let short = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
    rate[8..].copy_from_slice(&short.to_ne_bytes());
    let mut parameters = Vec::with_capacity(36); // struct tc_tbf_qopt
    parameters.extend_from_slice(&rate);
    parameters.extend_from_slice(&[0; 12]); // no peak rate
    parameters.extend_from_slice(&bucket.limit.to_ne_bytes());
    parameters.extend_from_slice(&[0; 4]); // the burst as a time, in place of which there is BURST
    parameters.extend_from_slice(&bucket.mtu.to_ne_bytes());
    options.bytes(TCA_TBF_PARMS, &parameters);
    options.u32(TCA_TBF_BURST, bucket.burst);
    if u32::try_from(bucket.rate).is_err() {
        options.bytes(TCA_TBF_RATE64, &bucket.rate.to_ne_bytes());
    }
}

/// Gives the link its own discipline back.
pub(crate) fn remove_root(batch: &mut Batch, link: u32) {
    let header = header(link, OUR_HANDLE, TC_H_ROOT, 0);
    let step = "take the rate from a link";
    batch.message(RTM_DELQDISC, NLM_F_ACK, &header, step, |_| ());
}

/// Reads the discipline at the root of a link; `None` when it is the link's own.
pub(crate) fn root(socket: &mut Socket, link: u32) -> Result<Option<Root>, NetlinkError> {
    get(socket, link, TC_H_ROOT, parse_root)
}

/// Tells whether the link has the hook that filters for incoming packets hang on.
pub(crate) fn has_clsact(socket: &mut Socket, link: u32) -> Result<bool, NetlinkError> {
    let kind = |message: &Message<'_>| find(message.attributes(HEADER), TCA_KIND).map(text);
    let found = get(socket, link, TC_H_CLSACT, kind)?;
    Ok(found.is_some_and(|kind| kind == "clsact"))
}

fn get<T>(
    socket: &mut Socket,
    link: u32,
    parent: u32,
    parse: impl Fn(&Message<'_>) -> Option<T>,
) -> Result<Option<T>, NetlinkError> {
    let mut batch = Batch::default();
    // kernels before 6.7 answer only to who asks to hear of it (qdisc_notify)
    let flags = NLM_F_ACK | NLM_F_ECHO;
    let header = header(link, 0, parent, 0);
    let step = "read the rate of a link";
    batch.message(RTM_GETQDISC, flags, &header, step, |_| ());
    let mut found = None;
    let result = socket.query(&mut batch, &mut |message| {
        if message.kind == RTM_NEWQDISC {
            found = found.take().or_else(|| parse(message));
        }
    });
    match result {
        Ok(()) => Ok(found),
        Err(error) if error.is(Errno::NOENT) || error.is(Errno::NODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse_root(message: &Message<'_>) -> Option<Root> {
    let number = |bytes: Option<&[u8]>| u32::try_from(integer_ne(bytes?)?).ok();
    let attributes = message.attributes(HEADER);
    let kind = find(attributes, TCA_KIND).map(text)?;
    let handle = number(message.payload.get(8..12))?;
    let queue = find(attributes, TCA_STATS2).and_then(|stats| find(stats, TCA_STATS_QUEUE));
    let bucket = || parse_bucket(find(attributes, TCA_OPTIONS)?);
    let bucket = (kind == "tbf").then(bucket).flatten();
    Some(Root {
        ours: bucket.is_some() && handle == OUR_HANDLE,
        bucket,
        backlog: queue
            .and_then(|queue| number(queue.get(4..8)))
            .unwrap_or_default(),
    })
}

fn parse_bucket(options: &[u8]) -> Option<TokenBucket> {
    let number = |bytes: Option<&[u8]>| u32::try_from(integer_ne(bytes?)?).ok();
    let parameters = find(options, TCA_TBF_PARMS)?;
    let short = number(parameters.get(8..12))?;
    Some(TokenBucket {
        rate: find(options, TCA_TBF_RATE64)
            .and_then(integer_ne)
            .unwrap_or(u64::from(short)),
        burst: find(options, TCA_TBF_BURST)
            .and_then(|bytes| number(Some(bytes)))
            .unwrap_or_default(),
        limit: number(parameters.get(24..28))?,
        mtu: number(parameters.get(32..36))?,
    })
}

/// Makes the hook that filters for incoming packets hang on.
pub(crate) fn add_clsact(batch: &mut Batch, link: u32) {
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    let header = header(link, CLSACT_HANDLE, TC_H_CLSACT, 0);
    let step = "watch the incoming packets of a link";
    batch.message(RTM_NEWQDISC, flags, &header, step, |qdisc| {
        qdisc.text(TCA_KIND, "clsact");
    });
}

/// Deletes the hook and every filter on it.
pub(crate) fn remove_clsact(batch: &mut Batch, link: u32) {
    let header = header(link, CLSACT_HANDLE, TC_H_CLSACT, 0);
    let step = "stop watching the incoming packets of a link";
    batch.message(RTM_DELQDISC, NLM_F_ACK, &header, step, |_| ());
}

fn filter_header(link: u32) -> [u8; HEADER] {
    let info = OUR_PRIORITY << 16 | u32::from(ETH_P_ALL.to_be());
    header(link, 0, CLSACT_INGRESS, info)
}

/// Sends every packet that comes in on the link out on another.
pub(crate) fn redirect_incoming(batch: &mut Batch, link: u32, target: u32) {
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    let step = "redirect the incoming packets of a link";
    batch.message(
        RTM_NEWTFILTER,
        flags,
        &filter_header(link),
        step,
        |filter| {
            // of the classifiers that can match everything, the one that every kernel has
            filter.text(TCA_KIND, "u32");
            filter.nest(TCA_OPTIONS, |options| {
                options.bytes(TCA_U32_SEL, &match_everything());
                options.nest(TCA_U32_ACT, |actions| {
                    actions.nest(1, |action| write_redirect(action, target));
                });
            });
        },
    );
}

/// `struct tc_u32_sel` with one `struct tc_u32_key` whose mask is empty.
fn match_everything() -> [u8; 32] {
    let mut selector = [0; 32];
    selector[0] = TC_U32_TERMINAL;
    selector[2] = 1;
    selector
}

fn write_redirect(action: &mut Attributes<'_>, target: u32) {
    let mut parameters = [0; 28]; // struct tc_mirred
    parameters[8..12].copy_from_slice(&TC_ACT_STOLEN.to_ne_bytes());
    parameters[20..24].copy_from_slice(&TCA_EGRESS_REDIR.to_ne_bytes());
    parameters[24..].copy_from_slice(&target.to_ne_bytes());
    action.text(TCA_ACT_KIND, "mirred");
    action.nest(TCA_ACT_OPTIONS, |options| {
        options.bytes(TCA_MIRRED_PARMS, &parameters);
    });
}

/// Deletes our filter.
pub(crate) fn remove_redirect(batch: &mut Batch, link: u32) {
    let step = "stop redirecting the incoming packets of a link";
    batch.message(
        RTM_DELTFILTER,
        NLM_F_ACK,
        &filter_header(link),
        step,
        |filter| filter.text(TCA_KIND, "u32"),
    );
}

/// Reads who has filters on a link that has the hook.
pub(crate) fn filters(socket: &mut Socket, link: u32) -> Result<Filters, NetlinkError> {
    let mut found = Filters {
        redirect: None,
        others: false,
    };
    for parent in [CLSACT_INGRESS, CLSACT_EGRESS] {
        let list = socket.dump(
            |batch| {
                let header = header(link, 0, parent, 0);
                let step = "list the filters of a link";
                batch.message(RTM_GETTFILTER, NLM_F_DUMP, &header, step, |_| ());
            },
            |message| (message.kind == RTM_NEWTFILTER).then(|| parse_filter(message)),
        )?;
        for (ours, target) in list {
            if ours && parent == CLSACT_INGRESS {
                found.redirect = found.redirect.or(target);
            } else {
                found.others = true;
            }
        }
    }
    Ok(found)
}

/// Tells whether a filter is ours, and where it sends packets: the tables that the classifier keeps
/// for itself are listed as filters as well.
fn parse_filter(message: &Message<'_>) -> (bool, Option<u32>) {
    let info = message.payload.get(16..HEADER).and_then(integer_ne);
    let ours = info.is_some_and(|info| info >> 16 == u64::from(OUR_PRIORITY));
    let target = || {
        let options = find(message.attributes(HEADER), TCA_OPTIONS)?;
        let action = find(find(options, TCA_U32_ACT)?, 1)?;
        let parameters = find(find(action, TCA_ACT_OPTIONS)?, TCA_MIRRED_PARMS)?;
        u32::try_from(integer_ne(parameters.get(24..28)?)?).ok()
    };
    (ours, target())
}
