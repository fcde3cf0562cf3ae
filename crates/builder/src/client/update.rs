//! What a build tells while it runs, in plain values.

use bollard_buildkit_proto::google::protobuf::Timestamp as Wire;
use bollard_buildkit_proto::moby::buildkit::v1 as proto;
use jiff::Timestamp;

/// A piece of news about a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Steps, new or changed.
    pub vertices: Vec<Vertex>,
    /// How far parts of steps are.
    pub statuses: Vec<Status>,
    /// What steps wrote.
    pub logs: Vec<Log>,
    /// What might be wrong with the Dockerfile.
    pub warnings: Vec<Warning>,
}

/// A step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vertex {
    /// What names it in all other news.
    pub digest: String,
    /// The steps that it needs.
    pub inputs: Vec<String>,
    /// Its name for people.
    pub name: String,
    /// Whether its result was there already.
    pub cached: bool,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub completed: Option<Timestamp>,
    /// Why it failed; empty when it did not.
    pub error: String,
}

/// How far a part of a step is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// What names it within the step.
    pub id: String,
    /// The step.
    pub vertex: String,
    /// Its name for people; the id where empty.
    pub name: String,
    /// How much is done, bytes or pieces.
    pub current: i64,
    /// How much there is; 0 where nobody knows.
    pub total: i64,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub completed: Option<Timestamp>,
}

/// What a step wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The step.
    pub vertex: String,
    /// When.
    pub at: Option<Timestamp>,
    /// 1 for standard output, 2 for standard error.
    pub stream: i64,
    /// The bytes; lines are not kept together.
    pub bytes: Vec<u8>,
}

/// Something that might be wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warning {
    /// The step.
    pub vertex: String,
    /// How much it matters; 1 is most.
    pub level: i64,
    /// In one line.
    pub short: String,
    /// In more lines.
    pub detail: Vec<String>,
    /// Where to read about it.
    pub url: String,
    /// The file it is about.
    pub file: String,
    /// That file's text.
    pub text: Vec<u8>,
    /// First and last lines, from 1.
    pub lines: Vec<(i32, i32)>,
}

fn time(wire: Option<Wire>) -> Option<Timestamp> {
    let wire = wire?;
    Timestamp::new(wire.seconds, wire.nanos).ok()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl From<proto::StatusResponse> for Update {
    fn from(wire: proto::StatusResponse) -> Self {
        Self {
            vertices: wire.vertexes.into_iter().map(Vertex::from).collect(),
            statuses: wire.statuses.into_iter().map(Status::from).collect(),
            logs: wire.logs.into_iter().map(Log::from).collect(),
            warnings: wire.warnings.into_iter().map(Warning::from).collect(),
        }
    }
}

impl From<proto::Vertex> for Vertex {
    fn from(wire: proto::Vertex) -> Self {
        Self {
            digest: wire.digest,
            inputs: wire.inputs,
            name: wire.name,
            cached: wire.cached,
            started: time(wire.started),
            completed: time(wire.completed),
            error: wire.error,
        }
    }
}

impl From<proto::VertexStatus> for Status {
    fn from(wire: proto::VertexStatus) -> Self {
        Self {
            id: wire.id,
            vertex: wire.vertex,
            name: wire.name,
            current: wire.current,
            total: wire.total,
            started: time(wire.started),
            completed: time(wire.completed),
        }
    }
}

impl From<proto::VertexLog> for Log {
    fn from(wire: proto::VertexLog) -> Self {
        Self {
            vertex: wire.vertex,
            at: time(wire.timestamp),
            stream: wire.stream,
            bytes: wire.msg,
        }
    }
}

impl From<proto::VertexWarning> for Warning {
    fn from(wire: proto::VertexWarning) -> Self {
        let info = wire.info.unwrap_or_default();
        let line = |p: Option<&bollard_buildkit_proto::pb::Position>| p.map_or(0, |p| p.line);
        let lines = wire
            .ranges
            .iter()
            .map(|range| (line(range.start.as_ref()), line(range.end.as_ref())));
        Self {
            vertex: wire.vertex,
            level: wire.level,
            short: text(&wire.short),
            detail: wire.detail.iter().map(|line| text(line)).collect(),
            url: wire.url,
            file: info.filename,
            text: info.data,
            lines: lines.collect(),
        }
    }
}
