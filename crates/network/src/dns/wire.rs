//! Questions and answers as bytes.
//!
//! `hickory-proto` reads what comes from outside; what is written is a header, the question as it
//! came, and records whose owner is a pointer to it.

use std::net::IpAddr;

use hickory_proto::op::{Header, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

pub(super) const HEADER: usize = 12;
/// What a client takes by UDP that says nothing of its size (RFC 1035, 2.3.4).
const SMALLEST_ROOM: u16 = 512;
/// What we send by UDP at most, whatever a client says that it takes.
pub(super) const LARGEST_DATAGRAM: u16 = 4096;
/// Docker's, so that a client that keeps answers keeps them as long.
const TIME_TO_LIVE: u32 = 600;
/// A pointer to the question's name.
const OWNER: [u8; 2] = [0xc0, 12];
/// An OPT record of RFC 6891: the root, type 41, our size as its class, no flags, no options.
const OPT: [u8; 11] = [0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0];

/// Why a query fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Malformed = 1,
    ServerFailure = 2,
    NotImplemented = 4,
    Refused = 5,
}

/// How a client came, and so how much it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// A query that was understood.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) id: u16,
    pub(super) kind: RecordType,
    /// The class is IN or ANY.
    pub(super) internet: bool,
    /// Where the question ends.
    pub(super) end: usize,
    /// The client's payload size, if it speaks EDNS.
    edns: Option<u16>,
    name: Name,
}

/// What a datagram or a frame of a client turned out to be.
#[derive(Debug)]
pub(super) enum Parsed {
    Question(Question),
    /// It deserves an error.
    Bad(Code),
    /// It deserves no answer: it is one itself, or has no header.
    Noise,
}

/// Reads a query; refuses the same as Docker's does.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let mut decoder = BinDecoder::new(bytes);
    let Ok(header) = Header::read(&mut decoder) else {
        return Parsed::Noise;
    };
    if header.message_type != MessageType::Query {
        return Parsed::Noise;
    }
    if header.op_code != OpCode::Query {
        return Parsed::Bad(Code::NotImplemented);
    }
    let counts = header.counts;
    if counts.queries != 1 || counts.answers > 1 || counts.authorities > 1 || counts.additionals > 2
    {
        return Parsed::Bad(Code::Malformed);
    }
    let Ok(query) = Query::read(&mut decoder) else {
        return Parsed::Bad(Code::Malformed);
    };
    let end = decoder.index();
    // a pointer can only lead into the header here, which is another one in the answer
    if end != HEADER + encoded_length(query.name()) + 4 {
        return Parsed::Bad(Code::Malformed);
    }
    let Ok(edns) = payload_size(&mut decoder, &header) else {
        return Parsed::Bad(Code::Malformed);
    };
    Parsed::Question(Question {
        id: header.id,
        kind: query.query_type(),
        internet: matches!(query.query_class(), DNSClass::IN | DNSClass::ANY),
        end,
        edns,
        name: query.name().clone(),
    })
}

fn payload_size(
    decoder: &mut BinDecoder<'_>,
    header: &Header,
) -> Result<Option<u16>, hickory_proto::serialize::binary::DecodeError> {
    let counts = header.counts;
    if counts.answers + counts.authorities + counts.additionals == 0 {
        return Ok(None);
    }
    let before = usize::from(counts.answers) + usize::from(counts.authorities);
    Message::read_records(decoder, before, false, header.op_code)?;
    let behind = usize::from(counts.additionals);
    let (_, edns, _) = Message::read_records(decoder, behind, true, header.op_code)?;
    Ok(edns.map(|edns| edns.max_payload()))
}

fn encoded_length(name: &Name) -> usize {
    name.iter().map(|label| label.len() + 1).sum::<usize>() + 1
}

impl Question {
    /// Writes the name as a look-up wants it: lower case, dots between, none at the end.
    ///
    /// `None` for a name that no name of ours can be: one with a dot inside a label, or not text.
    pub(super) fn key<'a>(&self, room: &'a mut [u8; 256]) -> Option<&'a str> {
        let mut length = 0;
        for label in self.name.iter() {
            if label.contains(&b'.') {
                return None;
            }
            if length > 0 {
                *room.get_mut(length)? = b'.';
                length += 1;
            }
            let place = room.get_mut(length..length + label.len())?;
            place.copy_from_slice(label);
            place.make_ascii_lowercase();
            length += label.len();
        }
        std::str::from_utf8(&room[..length]).ok()
    }

    /// Tells whether the name is one label.
    pub(super) fn is_single_label(&self) -> bool {
        self.name.iter().len() == 1
    }

    /// Reads the address of a reverse look-up out of the name.
    pub(super) fn address(&self) -> Option<IpAddr> {
        let network = self.name.parse_arpa_name().ok()?;
        (network.prefix_len() == network.max_prefix_len()).then(|| network.addr())
    }

    /// Returns the room for an answer.
    pub(super) fn room(&self, transport: Transport) -> usize {
        match transport {
            Transport::Tcp => usize::from(u16::MAX),
            Transport::Udp => {
                let said = self.edns.unwrap_or(SMALLEST_ROOM);
                usize::from(said.clamp(SMALLEST_ROOM, LARGEST_DATAGRAM))
            }
        }
    }

    /// Starts an answer to the query that this question was read from.
    pub(super) fn answer<'a>(
        &self,
        query: &[u8],
        transport: Transport,
        out: &'a mut Vec<u8>,
    ) -> Answer<'a> {
        let opt = if self.edns.is_some() { OPT.len() } else { 0 };
        out.clear();
        out.extend_from_slice(&self.id.to_be_bytes());
        out.extend_from_slice(&[0x80 | query[2] & 1, 0x80 | query[3] & 0x10]);
        out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(&query[HEADER..self.end]);
        Answer {
            room: self.room(transport).saturating_sub(opt),
            opt: self.edns.is_some(),
            records: 0,
            out,
        }
    }

    /// Writes an answer that says only that the query fails.
    pub(super) fn failure(&self, query: &[u8], code: Code, out: &mut Vec<u8>) {
        failure(self.id, &query[2..], self.end, code, out);
    }
}

/// An answer that is being written.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    out: &'a mut Vec<u8>,
    room: usize,
    records: u16,
    opt: bool,
}

impl Answer<'_> {
    pub(super) fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.record(1, &v4.octets()),
            IpAddr::V6(v6) => self.record(28, &v6.octets()),
        }
    }

    /// Adds a name, given in wire format.
    pub(super) fn pointer(&mut self, name: &[u8]) {
        self.record(12, name);
    }

    /// Adds a record, or notes that there is no room for it.
    fn record(&mut self, kind: u8, data: &[u8]) {
        let Ok(length) = u16::try_from(data.len()) else {
            return;
        };
        if self.out.len() + OWNER.len() + 10 + data.len() > self.room {
            self.out[2] |= TRUNCATED;
            return;
        }
        self.out.extend_from_slice(&OWNER);
        self.out.extend_from_slice(&[0, kind, 0, 1]);
        self.out.extend_from_slice(&TIME_TO_LIVE.to_be_bytes());
        self.out.extend_from_slice(&length.to_be_bytes());
        self.out.extend_from_slice(data);
        self.records += 1;
    }

    pub(super) fn finish(self) {
        self.out[6..8].copy_from_slice(&self.records.to_be_bytes());
        if self.opt {
            self.out.extend_from_slice(&OPT);
            self.out[11] = 1;
        }
    }
}

const TRUNCATED: u8 = 0x02;

/// Writes the answer to a query that could not be read: a header and nothing else.
pub(super) fn bare_failure(query: &[u8], code: Code, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&query[..2]);
    out.extend_from_slice(&[0x80 | query[2] & 0x79, code as u8, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// What a datagram or a frame from a name server is, for a query that waits for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// An answer to the query.
    Answer,
    /// The server does not answer this query, but another might.
    Failure,
    /// Not an answer to this query: stale, misdirected or forged.
    Strange,
}

/// Compares an answer with the query, which starts behind the id and whose question ends at `end`.
///
/// The id has been compared already; the question must come back as it went (RFC 5452, 4.1).
pub(super) fn judge(tail: &[u8], end: usize, reply: &[u8]) -> Reply {
    let Some(header) = reply.get(..HEADER) else {
        return Reply::Strange;
    };
    let (answer, operation, code) = (header[2] >> 7, header[2] >> 3 & 15, header[3] & 15);
    if answer != 1 || operation != 0 {
        return Reply::Strange;
    }
    let failed = code == Code::ServerFailure as u8 || code == Code::Refused as u8;
    let questions = u16::from_be_bytes([header[4], header[5]]);
    if questions == 0 && reply.len() == HEADER && code != 0 {
        // some servers send a bare header when they fail
        return Reply::Failure;
    }
    let same = questions == 1 && same_question(&tail[HEADER - 2..end - 2], &reply[HEADER..]);
    match (same, failed) {
        (false, _) => Reply::Strange,
        (true, true) => Reply::Failure,
        (true, false) => Reply::Answer,
    }
}

/// Compares names without regard to case, type and class exactly.
fn same_question(question: &[u8], reply: &[u8]) -> bool {
    let Some(echo) = reply.get(..question.len()) else {
        return false;
    };
    let name = question.len() - 4;
    question[..name].eq_ignore_ascii_case(&echo[..name]) && question[name..] == echo[name..]
}

/// Makes a server's answer the client's, and returns its length: its id, its question as it wrote
/// it, and if the answer is longer than what the client takes, nothing but the hint to ask again
/// by TCP.
pub(super) fn hand_on(id: u16, tail: &[u8], end: usize, room: usize, reply: &mut [u8]) -> usize {
    if reply.len() < end {
        return 0;
    }
    reply[..2].copy_from_slice(&id.to_be_bytes());
    reply[HEADER..end].copy_from_slice(&tail[HEADER - 2..end - 2]);
    if reply.len() <= room {
        return reply.len();
    }
    reply[2] |= TRUNCATED;
    reply[6..HEADER].fill(0);
    end
}

/// Writes the answer to a query, of which all but the id is at hand, that says that it fails.
pub(super) fn failure(id: u16, tail: &[u8], end: usize, code: Code, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&[0x80 | tail[0] & 1, tail[1] & 0x10 | code as u8]);
    out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&tail[HEADER - 2..end - 2]);
}

/// Writes a name in wire format; `None` when DNS has no such name.
pub(super) fn wire_name(name: &str) -> Option<Box<[u8]>> {
    let mut wire = Vec::with_capacity(name.len() + 2);
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|l| (1..64).contains(l))?;
        wire.push(length);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    (wire.len() <= Name::MAX_LENGTH).then(|| wire.into_boxed_slice())
}

#[cfg(test)]
mod tests;
