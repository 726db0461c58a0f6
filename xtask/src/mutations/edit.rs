//! The change of the working tree, and its end: the files are as they were, however this process ends.

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::catalogue::{Edit, Mutation};
use crate::target;

/// Waits until its input ends. Then, unless the files were restored (the first copy is gone), this process
/// has died: the script ends the process group of the tests, the last line that it read, and restores the
/// files. It copies rather than moves, because Cargo must see that they are newer than what it built from the
/// changed ones.
const WATCHDOG: &str = r#"
group=
while read -r line; do group=$line; done
[ -e "$1" ] || exit 0
[ -z "$group" ] || kill -TERM "-$group" 2>/dev/null
while [ $# -gt 1 ]; do cp "$1" "$2" && rm "$1"; shift 2; done
"#;

/// Refuses files with uncommitted changes, because the mutation could not be distinguished from them.
///
/// # Errors
/// There is such a file, or Git cannot be run.
pub(super) fn refuse_changed_files(root: &Path, rows: &[Mutation]) -> Result<(), String> {
    let files = rows.iter().flat_map(|row| &row.edits).map(|edit| edit.file.as_str());
    let output = Command::new("git")
        .current_dir(root)
        .args(["status", "--porcelain", "--"])
        .args(files)
        .output()
        .map_err(|error| format!("git status cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("git status failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let changed = String::from_utf8_lossy(&output.stdout);
    if changed.trim().is_empty() {
        return Ok(());
    }
    Err(format!(
        "commit or undo the changes of the files that would be mutated first:\n{}",
        changed.trim_end()
    ))
}

/// A file with its text before and after the change.
struct Change {
    path: PathBuf,
    copy: PathBuf,
    before: String,
    after: String,
}

/// A mutation that is in the working tree until this is dropped.
pub(super) struct Applied {
    changes: Vec<Change>,
    watchdog: Child,
    restored: bool,
}

impl Applied {
    /// Changes the files of a row.
    ///
    /// # Errors
    /// A file cannot be read or written, or the row does not fit it.
    pub(super) fn new(root: &Path, row: &Mutation) -> Result<Self, String> {
        let changes = changes(root, row)?;
        let watchdog = watchdog(&changes)?;
        let mut applied = Self { changes, watchdog, restored: false };
        for change in &applied.changes {
            fs::write(&change.copy, &change.before).map_err(failed(&change.copy))?;
        }
        for n in 0..applied.changes.len() {
            let change = &applied.changes[n];
            if let Err(error) = fs::write(&change.path, &change.after).map_err(failed(&change.path)) {
                applied.restore()?;
                return Err(error);
            }
        }
        Ok(applied)
    }

    /// Names the process group that must not outlive this process.
    pub(super) fn watch(&mut self, group: u32) {
        if let Some(input) = &mut self.watchdog.stdin {
            // Without the watchdog the tests end by themselves, and the files are restored here.
            let _ = writeln!(input, "{group}");
        }
    }

    /// Puts the files back as they were.
    ///
    /// # Errors
    /// A file cannot be written; its copy remains, and is named.
    pub(super) fn restore(&mut self) -> Result<(), String> {
        if self.restored {
            return Ok(());
        }
        self.restored = true;
        for change in &self.changes {
            fs::write(&change.path, &change.before).map_err(|error| {
                format!("{}: {error}; what it was is in {}", change.path.display(), change.copy.display())
            })?;
        }
        for change in &self.changes {
            match fs::remove_file(&change.copy) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&change.copy)(error)),
                _ => {}
            }
        }
        drop(self.watchdog.stdin.take());
        self.watchdog.wait().map(drop).map_err(|error| error.to_string())
    }
}

impl Drop for Applied {
    fn drop(&mut self) {
        if let Err(error) = self.restore() {
            eprintln!("xtask: {error}");
        }
    }
}

/// What becomes of each file; the places of several changes in one file are those of the text before all of them.
fn changes(root: &Path, row: &Mutation) -> Result<Vec<Change>, String> {
    let folder = target().join("mutations");
    fs::create_dir_all(&folder).map_err(failed(&folder))?;
    let mut by_file: BTreeMap<&str, Vec<&Edit>> = BTreeMap::new();
    for edit in &row.edits {
        by_file.entry(&edit.file).or_default().push(edit);
    }
    let mut changes = Vec::new();
    for (n, (file, edits)) in by_file.into_iter().enumerate() {
        let path = root.join(file);
        let before = fs::read_to_string(&path).map_err(failed(&path))?;
        let mut places = Vec::new();
        for edit in edits {
            places.push((edit.locate(&before).map_err(|why| format!("{file}: {why}"))?, &edit.replace));
        }
        // From the end, so that earlier places stay where they are.
        places.sort_by_key(|(place, _)| std::cmp::Reverse(place.start));
        let mut after = before.clone();
        for (place, replace) in places {
            after.replace_range(place, replace);
        }
        changes.push(Change { path, copy: folder.join(format!("before-{n}")), before, after });
    }
    Ok(changes)
}

fn watchdog(changes: &[Change]) -> Result<Child, String> {
    let files = changes.iter().flat_map(|change| [&change.copy, &change.path]);
    Command::new("sh")
        .args(["-c", WATCHDOG, "sh"])
        .args(files)
        .stdin(Stdio::piped())
        // Ctrl-C is for this process alone.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("sh cannot be run: {error}"))
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> String {
    move |error| format!("{}: {error}", path.display())
}
