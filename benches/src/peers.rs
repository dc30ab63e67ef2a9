//! The programs that are measured: those inside this one, and with `--peers` those in `benches/peers`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::Value;
use trunkline_benches::subject::Error;

use crate::subjects::CONTAINED;

/// A program that can be a server or a client.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) configuration: String,
    pub(crate) transports: Vec<String>,
    pub(crate) modes: Vec<String>,
    pub(crate) beside_max: usize,
    pub(crate) streams: bool,
    /// What comes before `serve` and the like.
    #[serde(skip)]
    pub(crate) program: Vec<PathBuf>,
}

impl Subject {
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program[0]);
        command.args(&self.program[1..]);
        command
    }

    /// Whether it is neither trunkline nor a floor.
    pub(crate) fn is_peer(&self) -> bool {
        CONTAINED.iter().all(|contained| contained.about.name != self.name)
    }
}

/// trunkline and its floors.
pub(crate) fn contained() -> Result<Vec<Subject>, Error> {
    let program = env::current_exe()?;
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let subject = |about: &trunkline_benches::subject::About| Subject {
        name: about.name.to_owned(),
        version: about.version.to_owned(),
        configuration: about.configuration.to_owned(),
        transports: owned(about.transports),
        modes: owned(about.modes),
        beside_max: about.beside_max,
        streams: about.streams,
        program: vec![program.clone(), "subject".into(), about.name.into()],
    };
    Ok(CONTAINED.iter().map(|contained| subject(&contained.about)).collect())
}

/// Builds the other frameworks' programs, and asks each what it is. One that has no answer is left out, and said so.
pub(crate) fn build() -> Result<Vec<Subject>, Error> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/Cargo.toml");
    let manifest = manifest.canonicalize().map_err(|error| format!("--peers: {}: {error}", manifest.display()))?;
    eprintln!("building the other frameworks");
    let built = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--release", "--message-format=json-render-diagnostics", "--manifest-path"])
        .arg(&manifest)
        .stderr(Stdio::inherit())
        .output()?;
    if !built.status.success() {
        return Err("--peers: the other frameworks do not build".into());
    }
    let mut subjects: Vec<Subject> = Vec::new();
    for line in built.stdout.split(|byte| *byte == b'\n') {
        let Ok(message) = serde_json::from_slice::<Value>(line) else { continue };
        let is_program =
            message["target"]["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "bin"));
        let Some(program) = message["executable"].as_str().filter(|_| is_program) else { continue };
        match describe(Path::new(program)) {
            Ok(subject) => subjects.push(subject),
            Err(error) => eprintln!("{program} is left out: {error}"),
        }
    }
    // They are built in no order, and each shall keep its colour.
    subjects.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(subjects)
}

fn describe(program: &Path) -> Result<Subject, Error> {
    let output = Command::new(program).arg("describe").stdin(Stdio::null()).output()?;
    let mut subject: Subject = serde_json::from_slice(&output.stdout)?;
    subject.program = vec![program.to_owned()];
    Ok(subject)
}
