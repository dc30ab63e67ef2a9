//! From a URI to a connector or a listener.

use trunkline_core::ConnectError;
use trunkline_core::transport::{Connector, Listener};
use trunkline_transports::BindError;
#[cfg(feature = "mem")]
use trunkline_transports::mem::{MemConnector, MemListener};
#[cfg(all(unix, feature = "pipe"))]
use trunkline_transports::pipe::{Inherited, Spawn, Stdio};
#[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little", feature = "shm"))]
use trunkline_transports::shm::{ShmConnector, ShmListener};
#[cfg(all(unix, feature = "tcp"))]
use trunkline_transports::tcp::{TcpConnector, TcpListener};
#[cfg(all(unix, feature = "unix"))]
use trunkline_transports::unix::{UnixConnector, UnixListener};

/// The transport that a URI names, and where on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint<'a> {
    #[cfg(all(unix, feature = "tcp"))]
    Tcp(&'a str),
    #[cfg(all(unix, feature = "unix"))]
    Unix(&'a str),
    #[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little", feature = "shm"))]
    Shm(&'a str),
    #[cfg(feature = "mem")]
    Mem(&'a str),
    #[cfg(all(unix, feature = "pipe"))]
    Exec(&'a str),
    #[cfg(all(unix, feature = "pipe"))]
    Inherited,
    #[cfg(all(unix, feature = "pipe"))]
    Stdio,
}

/// The URIs of the transports that are compiled in, for messages.
const FORMS: &[&str] = &[
    #[cfg(all(unix, feature = "tcp"))]
    "tcp://host:port",
    #[cfg(all(unix, feature = "unix"))]
    "unix:/path/to.sock",
    #[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little", feature = "shm"))]
    "shm:/path/to.sock",
    #[cfg(feature = "mem")]
    "mem:name",
    #[cfg(all(unix, feature = "pipe"))]
    "exec:program (to connect)",
    #[cfg(all(unix, feature = "pipe"))]
    "inherited: (to serve)",
    #[cfg(all(unix, feature = "pipe"))]
    "stdio:",
];

impl<'a> Endpoint<'a> {
    /// Takes a URI apart, or says what is wrong and what to write.
    fn parse(uri: &'a str) -> Result<Endpoint<'a>, String> {
        let Some((scheme, rest)) = uri.split_once(':') else {
            return Err(format!("it has no scheme; write one of {}", FORMS.join(", ")));
        };
        match scheme {
            #[cfg(all(unix, feature = "tcp"))]
            "tcp" => match rest.strip_prefix("//").map(|address| address.strip_suffix('/').unwrap_or(address)) {
                Some(address) if has_port(address) => Ok(Endpoint::Tcp(address)),
                _ => Err("write tcp://host:port".to_owned()),
            },
            #[cfg(all(unix, feature = "unix"))]
            "unix" => path("unix", rest).map(Endpoint::Unix),
            #[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little", feature = "shm"))]
            "shm" => path("shm", rest).map(Endpoint::Shm),
            #[cfg(feature = "mem")]
            "mem" => match rest {
                "" => Err("the name is missing: write mem:name".to_owned()),
                name => Ok(Endpoint::Mem(name)),
            },
            #[cfg(all(unix, feature = "pipe"))]
            "exec" => match rest.trim() {
                "" => Err("the program is missing: write exec:./program --flag".to_owned()),
                line => Ok(Endpoint::Exec(line)),
            },
            #[cfg(all(unix, feature = "pipe"))]
            "inherited" | "stdio" if !rest.is_empty() => Err(format!("nothing comes after the colon: write {scheme}:")),
            #[cfg(all(unix, feature = "pipe"))]
            "inherited" => Ok(Endpoint::Inherited),
            #[cfg(all(unix, feature = "pipe"))]
            "stdio" => Ok(Endpoint::Stdio),
            _ => Err(format!("there is no transport `{scheme}` here; write one of {}", FORMS.join(", "))),
        }
    }
}

#[cfg(all(unix, feature = "tcp"))]
fn has_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

#[cfg(all(unix, any(feature = "unix", feature = "shm")))]
fn path<'a>(scheme: &str, rest: &'a str) -> Result<&'a str, String> {
    match rest.strip_prefix("//").unwrap_or(rest) {
        "" => Err(format!("the path of the socket is missing: write {scheme}:/path/to.sock")),
        path => Ok(path),
    }
}

/// `exec`: whether a URI may start a program.
pub(crate) fn connector(uri: &str, exec: bool) -> Result<Box<dyn Connector>, ConnectError> {
    let unfit = |why: String| ConnectError::Endpoint { endpoint: uri.to_owned(), why };
    // Without the transports that read it.
    let _ = exec;
    match Endpoint::parse(uri) {
        #[cfg(all(unix, feature = "tcp"))]
        Ok(Endpoint::Tcp(address)) => Ok(Box::new(TcpConnector::new(address))),
        #[cfg(all(unix, feature = "unix"))]
        Ok(Endpoint::Unix(path)) => Ok(Box::new(UnixConnector::new(path))),
        #[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little", feature = "shm"))]
        Ok(Endpoint::Shm(path)) => Ok(Box::new(ShmConnector::new(path))),
        #[cfg(feature = "mem")]
        Ok(Endpoint::Mem(name)) => Ok(Box::new(MemConnector::new(name))),
        #[cfg(all(unix, feature = "pipe"))]
        Ok(Endpoint::Exec(line)) if exec => Ok(Box::new(Spawn::new(command(line)))),
        #[cfg(all(unix, feature = "pipe"))]
        Ok(Endpoint::Exec(_)) => Err(unfit(EXEC_REFUSED.to_owned())),
        #[cfg(all(unix, feature = "pipe"))]
        Ok(Endpoint::Inherited) => Err(unfit(INHERITED_IS_SERVED.to_owned())),
        #[cfg(all(unix, feature = "pipe"))]
        Ok(Endpoint::Stdio) => match Stdio::take() {
            Ok(stdio) => Ok(Box::new(stdio)),
            Err(BindError::Endpoint { why, .. }) => Err(unfit(why)),
            Err(error) => Err(ConnectError::Unreachable { endpoint: uri.to_owned(), source: error.into() }),
        },
        Err(why) => Err(unfit(why)),
    }
}

/// A program and its arguments, split at spaces: there is no shell, and there are no quotes.
#[cfg(all(unix, feature = "pipe"))]
fn command(line: &str) -> std::process::Command {
    let mut words = line.split(' ').filter(|word| !word.is_empty());
    let mut command = std::process::Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

#[cfg(all(unix, feature = "pipe"))]
const EXEC_REFUSED: &str = "a URI may start a program only where the code allows it, since URIs come from configuration: \
                            use `Connection::builder().allow_exec()`, or `spawn(Command)`";
#[cfg(all(unix, feature = "pipe"))]
const INHERITED_IS_SERVED: &str = "it is what a child process serves on: its parent connects by `spawn(Command)`, or \
                                   exec:./program";
#[cfg(all(unix, feature = "pipe"))]
const EXEC_IS_CONNECTED_TO: &str = "it is how a parent connects: the program that it starts serves on inherited:";

pub(crate) async fn listener(uri: &str) -> Result<Box<dyn Listener>, BindError> {
    match Endpoint::parse(uri) {
        #[cfg(all(unix, feature = "tcp"))]
        Ok(Endpoint::Tcp(address)) => Ok(Box::new(TcpListener::bind(address).await?)),
        #[cfg(all(unix, feature = "unix"))]
        Ok(Endpoint::Unix(path)) => Ok(Box::new(UnixListener::bind(path)?)),
        #[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little", feature = "shm"))]
        Ok(Endpoint::Shm(path)) => Ok(Box::new(ShmListener::bind(path)?)),
        #[cfg(feature = "mem")]
        Ok(Endpoint::Mem(name)) => Ok(Box::new(MemListener::bind(name)?)),
        #[cfg(all(unix, feature = "pipe"))]
        Ok(Endpoint::Exec(_)) => {
            Err(BindError::Endpoint { endpoint: uri.to_owned(), why: EXEC_IS_CONNECTED_TO.to_owned() })
        }
        #[cfg(all(unix, feature = "pipe"))]
        Ok(Endpoint::Inherited) => Ok(Box::new(Inherited::bind()?)),
        #[cfg(all(unix, feature = "pipe"))]
        Ok(Endpoint::Stdio) => Ok(Box::new(Stdio::take()?)),
        Err(why) => Err(BindError::Endpoint { endpoint: uri.to_owned(), why }),
    }
}

#[cfg(all(test, target_os = "linux", feature = "tcp", feature = "shm", feature = "mem", feature = "pipe"))]
mod tests {
    use super::*;

    #[test]
    fn uris_name_a_transport_and_a_place_on_it() {
        assert_eq!(Endpoint::parse("tcp://127.0.0.1:80"), Ok(Endpoint::Tcp("127.0.0.1:80")));
        assert_eq!(Endpoint::parse("tcp://[::1]:0/"), Ok(Endpoint::Tcp("[::1]:0")));
        assert_eq!(Endpoint::parse("unix:/run/kv.sock"), Ok(Endpoint::Unix("/run/kv.sock")));
        assert_eq!(Endpoint::parse("unix:///run/kv.sock"), Ok(Endpoint::Unix("/run/kv.sock")));
        assert_eq!(Endpoint::parse("unix:kv.sock"), Ok(Endpoint::Unix("kv.sock")));
        assert_eq!(Endpoint::parse("shm:/run/kv.sock"), Ok(Endpoint::Shm("/run/kv.sock")));
        assert_eq!(Endpoint::parse("mem:kv"), Ok(Endpoint::Mem("kv")));
        assert_eq!(Endpoint::parse("exec:./kv --threads 1"), Ok(Endpoint::Exec("./kv --threads 1")));
        assert_eq!(Endpoint::parse("inherited:"), Ok(Endpoint::Inherited));
        assert_eq!(Endpoint::parse("stdio:"), Ok(Endpoint::Stdio));
    }

    #[test]
    fn a_bad_uri_says_what_to_write() {
        for (uri, hint) in [
            ("localhost:80", "there is no transport `localhost` here"),
            ("/run/kv.sock", "it has no scheme"),
            ("tcp:localhost:80", "write tcp://host:port"),
            ("tcp://localhost", "write tcp://host:port"),
            ("tcp://localhost:port", "write tcp://host:port"),
            ("tcp://:80", "write tcp://host:port"),
            ("unix:", "the path of the socket is missing"),
            ("shm:", "write shm:/path/to.sock"),
            ("mem:", "the name is missing"),
            ("exec:", "the program is missing"),
            ("exec: ", "the program is missing"),
            ("inherited:pipes", "write inherited:"),
            ("stdio://", "write stdio:"),
            ("http://localhost", "write one of tcp://host:port, unix:/path/to.sock, shm:/path/to.sock, mem:name"),
        ] {
            let why = Endpoint::parse(uri).unwrap_err();
            assert!(why.contains(hint), "{uri}: {why}");
        }
    }

    #[test]
    fn a_program_and_its_arguments_are_split_at_spaces() {
        let command = command("./kv  --name 'a b'");
        assert_eq!(command.get_program(), "./kv");
        assert_eq!(command.get_args().collect::<Vec<_>>(), ["--name", "'a", "b'"]);
    }

    #[tokio::test]
    async fn the_wrong_side_of_a_pipe_says_what_to_write() {
        let why = |uri: &str| connector(uri, false).err().expect("an error").to_string();
        assert!(why("exec:./kv").contains("allow_exec"), "{}", why("exec:./kv"));
        assert!(why("inherited:").contains("spawn(Command)"), "{}", why("inherited:"));
        assert!(connector("exec:./kv", true).is_ok());
        let why = listener("exec:./kv").await.err().expect("an error").to_string();
        assert!(why.contains("serves on inherited:"), "{why}");
        let why = listener("inherited:").await.err().expect("an error").to_string();
        assert!(why.contains("was not started by `spawn`"), "{why}");
    }
}
