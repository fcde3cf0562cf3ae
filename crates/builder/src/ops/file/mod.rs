//! Changes of files: copies, new files and folders, removals, links.
//!
//! The actions of one operation work on each other's results. Each result lies in a folder of its own
//! on its input, and an action that works on the result of another goes on in that folder.

mod actions;
mod direct;
mod unpack;

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use prost::Message as _;

use crate::error::Subject;
use crate::error::{Error, Result, Step};
use crate::llb::pb;
use crate::llb::pb::file_action::Action;
use crate::op::{CacheMap, InputKey, OpContext, Selector};
use crate::ops::copy::clean;
use crate::snapshot::{LayerFacts, Snapshot, Snapshots, Writable};

/// Actions of one operation.
const ACTIONS_AT_MOST: usize = 10_000;

/// What a file operation does. A source of copies counts by the content of what is copied.
pub(super) fn cache_map(context: &OpContext, op: &pb::FileOp) -> Result<CacheMap> {
    let count = context.vertex.inputs.len();
    let mut selectors: HashMap<usize, Option<Vec<Selector>>> = HashMap::new();
    let mut by_definition = |index: i64| {
        if let Some(index) = usize::try_from(index).ok().filter(|index| *index < count) {
            selectors.insert(index, None);
        }
    };
    for action in &op.actions {
        by_definition(action.input);
        for named in names_of(action) {
            by_definition(named.input);
        }
    }
    let mut stripped = op.clone();
    for (action, stripped) in op.actions.iter().zip(&mut stripped.actions) {
        let (Some(Action::Copy(copy)), Some(Action::Copy(clean_copy))) =
            (&action.action, &mut stripped.action)
        else {
            if action.secondary_input >= 0 {
                by_input(&mut selectors, action.secondary_input, count, None);
            }
            continue;
        };
        let selector = selector_of(copy);
        by_input(
            &mut selectors,
            action.secondary_input,
            count,
            Some(selector),
        );
        // where it is read is part of the content's digest: the last name is what the copy is called
        clean_copy.src = name_that_counts(copy);
    }
    let inputs = (0..count).map(|index| match selectors.remove(&index) {
        Some(Some(selectors)) => InputKey::Content(selectors),
        Some(None) | None => InputKey::Definition,
    });
    let inputs = inputs.collect();
    Ok(CacheMap {
        digest: super::keyed("buildkit.file.v0", &stripped.encode_to_vec()),
        inputs,
    })
}

fn by_input(
    selectors: &mut HashMap<usize, Option<Vec<Selector>>>,
    index: i64,
    count: usize,
    selector: Option<Selector>,
) {
    let Some(index) = usize::try_from(index).ok().filter(|index| *index < count) else {
        return;
    };
    match (
        selectors.entry(index).or_insert_with(|| Some(Vec::new())),
        selector,
    ) {
        (Some(list), Some(selector)) if !list.contains(&selector) => list.push(selector),
        (Some(_), Some(_)) | (None, _) => {}
        (entry, None) => *entry = None,
    }
}

/// The owners by name of an action.
fn names_of(action: &pb::FileAction) -> Vec<&pb::NamedUserOpt> {
    let owner = match &action.action {
        Some(Action::Copy(copy)) => copy.owner.as_ref(),
        Some(Action::Mkfile(file)) => file.owner.as_ref(),
        Some(Action::Mkdir(folder)) => folder.owner.as_ref(),
        Some(Action::Symlink(link)) => link.owner.as_ref(),
        Some(Action::Rm(_)) | None => None,
    };
    let both = owner
        .into_iter()
        .flat_map(|owner| [&owner.user, &owner.group]);
    both.flatten()
        .filter_map(|who| match &who.user {
            Some(pb::user_opt::User::ByName(named)) => Some(named),
            _ => None,
        })
        .collect()
}

fn selector_of(copy: &pb::FileActionCopy) -> Selector {
    Selector {
        path: clean(&copy.src),
        wildcard: copy.allow_wildcard,
        follow_links: copy.follow_symlink,
        include: copy.include_patterns.clone(),
        exclude: copy.exclude_patterns.clone(),
    }
}

/// The part of a source's path that decides what the copy is called.
fn name_that_counts(copy: &pb::FileActionCopy) -> String {
    let path = clean(&copy.src);
    let (_, name) = crate::ops::copy::split(&path);
    let mark = &path[path
        .trim_end_matches(['/', '.'])
        .len()
        .max(1)
        .min(path.len())..];
    format!("{name}{mark}")
}

/// A result of an action while others may still work on it.
enum State {
    Fixed(Snapshot),
    Open(Box<Work>),
    /// Taken over by the one action that goes on with it.
    Gone,
}

/// A folder on a snapshot in which actions write.
pub(super) struct Work {
    writable: Writable,
    /// The merged tree, once an action needs it.
    root: Option<OwnedFd>,
    written: bool,
}

impl Work {
    fn new(writable: Writable) -> Self {
        Self {
            writable,
            root: None,
            written: false,
        }
    }

    /// The tree, for changes of any kind.
    pub(super) fn root(&mut self) -> Result<&OwnedFd> {
        self.written = true;
        if self.root.is_none() {
            // over nothing the folder is the tree
            self.root = Some(if self.writable.parent().is_scratch() {
                let upper = self.writable.upper();
                crate::ops::stage::open_folder(&upper)
                    .step(|| format!("open {}", upper.display()))?
            } else {
                self.writable.open()?
            });
        }
        let missing = || Error::internal("a step has no tree");
        self.root.as_ref().ok_or_else(missing)
    }

    /// The snapshot below.
    fn parent(&self) -> &Snapshot {
        self.writable.parent()
    }

    /// The folder of the new layer.
    fn upper(&self) -> std::path::PathBuf {
        self.writable.upper()
    }

    /// Whether anything was written, or may be.
    fn is_written(&self) -> bool {
        self.written
    }

    fn set_written(&mut self) {
        self.written = true;
    }
}

/// Does all actions; one snapshot for each output.
pub(super) async fn run(
    context: &OpContext,
    op: &pb::FileOp,
    inputs: &[Snapshot],
) -> Result<Vec<Snapshot>> {
    if op.actions.len() > ACTIONS_AT_MOST {
        return Err(Error::invalid("invalid file op: too many actions"));
    }
    for snapshot in inputs {
        context
            .cancel
            .run(async { Ok(snapshot.ready().await?) })
            .await?;
    }
    let mut doing = Doing {
        snapshots: context.builder.snapshots.clone(),
        name: context.vertex.name.clone(),
        states: inputs.iter().cloned().map(State::Fixed).collect(),
        uses: uses(op, inputs.len()),
        inputs: inputs.len(),
        cancel: context.cancel.clone(),
    };
    let op = op.clone();
    super::blocking(move || {
        for (index, action) in op.actions.iter().enumerate() {
            doing.cancel.check()?;
            let at = i64::try_from(index).unwrap_or(i64::MAX);
            doing
                .act(action)
                .map_err(|error| error.about(Subject::FileAction(at)))?;
        }
        doing.outputs(&op)
    })
    .await
}

/// How often the result of each action is needed.
fn uses(op: &pb::FileOp, inputs: usize) -> HashMap<usize, usize> {
    let mut uses = HashMap::new();
    for action in &op.actions {
        let named = names_of(action);
        let named = named.iter().map(|named| named.input);
        let all = [action.input, action.secondary_input]
            .into_iter()
            .chain(named);
        for index in all.filter_map(|index| usize::try_from(index).ok()) {
            *uses.entry(index).or_default() += 1;
        }
    }
    for (index, action) in op.actions.iter().enumerate() {
        if action.output >= 0 {
            *uses.entry(inputs + index).or_default() += 1;
        }
    }
    uses
}

struct Doing {
    snapshots: Snapshots,
    name: String,
    states: Vec<State>,
    uses: HashMap<usize, usize>,
    inputs: usize,
    cancel: crate::cancel::Cancel,
}

impl Doing {
    fn act(&mut self, action: &pb::FileAction) -> Result<()> {
        let what = action.action.as_ref();
        let what =
            what.ok_or_else(|| Error::invalid("invalid file op: an action without a kind"))?;
        let owner = {
            let owner = match what {
                Action::Copy(copy) => copy.owner.clone(),
                Action::Mkfile(file) => file.owner.clone(),
                Action::Mkdir(folder) => folder.owner.clone(),
                Action::Symlink(link) => link.owner.clone(),
                Action::Rm(_) => None,
            };
            super::owner::resolve(owner.as_ref(), &mut |index| self.fixed(index))?
        };
        let source = match what {
            Action::Copy(_) => Some(self.fixed(action.secondary_input)?),
            _ => None,
        };
        let mut work = self.open(action.input)?;
        match (what, source) {
            (Action::Copy(copy), Some(source)) => actions::copy(&mut work, &source, copy, owner)?,
            (Action::Copy(_), None) => {}
            (Action::Mkfile(file), _) => actions::make_file(&mut work, file, owner)?,
            (Action::Mkdir(folder), _) => actions::make_directory(&mut work, folder, owner)?,
            (Action::Symlink(link), _) => actions::make_link(&mut work, link, owner)?,
            (Action::Rm(remove), _) => actions::remove(&mut work, remove)?,
        }
        self.states.push(State::Open(Box::new(work)));
        Ok(())
    }

    fn index(&self, index: i64) -> Result<usize> {
        let found = usize::try_from(index)
            .ok()
            .filter(|at| *at < self.states.len());
        found.ok_or_else(|| Error::invalid(format!("invalid file op: no result {index} yet")))
    }

    /// A result that nobody writes to any more.
    fn fixed(&mut self, index: i64) -> Result<Snapshot> {
        if index < 0 {
            return Ok(Snapshot::scratch());
        }
        let at = self.index(index)?;
        let state = std::mem::replace(&mut self.states[at], State::Gone);
        let snapshot = match state {
            State::Fixed(snapshot) => snapshot,
            State::Open(work) => {
                let Work { writable, root, .. } = *work;
                drop(root);
                writable.commit(LayerFacts::new(&self.name))?
            }
            State::Gone => {
                return Err(Error::invalid(format!(
                    "invalid file op: result {index} is used up"
                )));
            }
        };
        self.states[at] = State::Fixed(snapshot.clone());
        self.used(at);
        Ok(snapshot)
    }

    fn used(&mut self, at: usize) {
        if let Some(count) = self.uses.get_mut(&at) {
            *count = count.saturating_sub(1);
        }
    }

    /// A folder to go on in: that of the result itself if nobody else needs it.
    fn open(&mut self, index: i64) -> Result<Work> {
        if index >= 0 {
            let at = self.index(index)?;
            let alone = at >= self.inputs && self.uses.get(&at) == Some(&1);
            if alone && matches!(self.states[at], State::Open(_)) {
                self.used(at);
                if let State::Open(work) = std::mem::replace(&mut self.states[at], State::Gone) {
                    return Ok(*work);
                }
            }
        }
        let below = self.fixed(index)?;
        let below = super::as_layers(&self.snapshots, &below)?;
        let writable = self.snapshots.prepare(&below)?;
        Ok(Work::new(writable))
    }

    fn outputs(&mut self, op: &pb::FileOp) -> Result<Vec<Snapshot>> {
        let mut wanted: Vec<(i64, usize)> = Vec::new();
        for (index, action) in op.actions.iter().enumerate() {
            if action.output >= 0 {
                wanted.push((action.output, self.inputs + index));
            }
        }
        wanted.sort_unstable();
        let mut made = Vec::with_capacity(wanted.len());
        for (output, at) in wanted {
            if usize::try_from(output) != Ok(made.len()) {
                return Err(Error::invalid(format!(
                    "invalid file op: no output {}",
                    made.len()
                )));
            }
            made.push(self.fixed(i64::try_from(at).unwrap_or(i64::MAX))?);
        }
        Ok(made)
    }
}
