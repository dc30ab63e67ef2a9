//! The README shows the code of `examples/quickstart`, word for word, and its links lead somewhere.
//!
//! That the code works is shown by `.ci/readme`, which builds it the way a newcomer would.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The block behind `<!-- file: name -->`.
fn block<'a>(readme: &'a str, name: &str) -> &'a str {
    let mark = format!("<!-- file: {name} -->\n```");
    let (_, rest) = readme.split_once(&mark).unwrap_or_else(|| panic!("the README has no block for {name}"));
    let (_, block) = rest.split_once('\n').unwrap();
    &block[..block.find("```").unwrap()]
}

#[test]
fn the_readme_shows_the_quickstart() {
    let readme = read("README.md");
    for name in ["kv.rs", "server.rs", "client.rs"] {
        assert_eq!(block(&readme, name), read(&format!("examples/quickstart/{name}")), "{name} differs");
    }
}

#[test]
fn the_readme_begins_with_the_two_commands() {
    let readme = read("README.md");
    let (_, rest) = readme.split_once("```console\n").unwrap();
    let commands: Vec<&str> = rest.lines().take_while(|line| *line != "```").collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    assert!(commands[0].starts_with("$ cargo run --release --example tour "), "{commands:?}");
    assert!(commands[1].starts_with("$ cargo test --workspace "), "{commands:?}");
}

#[test]
fn links_lead_to_files_that_are_there() {
    let mut astray = Vec::new();
    for page in [
        "README.md",
        "docs/architecture.md",
        "docs/conformance.md",
        "docs/decisions.md",
        "docs/limits.md",
        "docs/protocol.md",
        "docs/shared-memory.md",
        "docs/threats.md",
    ] {
        let text = read(page);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(page).parent().unwrap().to_owned();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        for link in links.filter(|link| !link.starts_with("http")) {
            let (file, _) = link.split_once('#').unwrap_or((link, ""));
            if !folder.join(file).exists() {
                astray.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(astray.is_empty(), "{astray:#?}");
}

/// Every source file under `folder`, one after the other.
fn sources(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn tests_that_the_documentation_names_exist() {
    let mut all = String::new();
    for folder in ["tests", "transports", "rpc-core/src"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut all);
    }
    let text = read("docs/threats.md");
    // The last cell of a row says what shows it.
    let proofs = text.lines().filter_map(|line| line.rsplit('|').nth(1));
    let quoted = proofs.flat_map(|proof| proof.split('`').skip(1).step_by(2));
    let names: Vec<&str> = quoted.filter(|name| !name.contains('/')).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(all.contains(&format!("fn {name}")), "docs/threats.md names `{name}`, which is no test");
    }
}

#[test]
fn the_page_on_limits_has_them_all() {
    let limits = format!("{:?}", trunkline::Limits::default());
    let text = read("docs/limits.md");
    // `Limits { name: value, …`: a name stands before each colon.
    for name in
        limits.split(": ").filter_map(|before| before.rsplit([' ', '{']).next()).filter(|name| name.contains('_'))
    {
        assert!(text.contains(&format!("`{name}`")), "docs/limits.md lacks `{name}`");
    }
}
