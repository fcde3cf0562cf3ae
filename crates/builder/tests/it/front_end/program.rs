//! The front end itself: this test's own program in an image, which speaks with its bridge.

use std::collections::HashMap;

use bollard_buildkit_proto::moby::buildkit::v1::frontend as gateway;
use builder::llb::{digest_of, pb};
use gateway::exec_message::Input;
use gateway::llb_bridge_client::LlbBridgeClient;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tonic::transport::{Channel, Endpoint};

pub(super) type Client = LlbBridgeClient<Channel>;

/// What a client of the build set.
fn options() -> HashMap<String, String> {
    let options = std::env::vars().filter(|(name, _)| name.starts_with("BUILDKIT_FRONTEND_OPT_"));
    let pair = |(_, text): (String, String)| {
        let (name, value) = text.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    options.filter_map(pair).collect()
}

#[test]
fn program() {
    if std::env::var_os("BUILDKIT_EXPORTEDPRODUCT").is_none() {
        // here is nobody to speak with
        return;
    }
    let options = options();
    let mode = options.get("mode").map_or("", String::as_str);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        match mode {
            "crash" => panic!("nothing works"),
            "silent" => std::future::pending::<()>().await,
            "garbage" => {
                std::fs::write("/proc/self/fd/3", "HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
                std::future::pending::<()>().await;
            }
            "mute" => return,
            _ => {}
        }
        let mut client = connect().await;
        let result = match mode {
            "containers" => containers(&mut client).await,
            "hostile" => hostile(&mut client, &options).await,
            "escape" => super::escape::escape(&mut client, &options).await,
            "deep" => deep(&mut client, options.clone()).await,
            "refuses" => Err("this recipe is wrong".to_owned()),
            _ => build(&mut client, &options).await,
        };
        let request = match result {
            Ok(result) => gateway::ReturnRequest {
                result: Some(result),
                error: None,
            },
            Err(message) => gateway::ReturnRequest {
                result: None,
                error: Some(bollard_buildkit_proto::google::rpc::Status {
                    code: 2,
                    message,
                    details: Vec::new(),
                }),
            },
        };
        client.r#return(request).await.unwrap();
    });
}

/// The bridge is at the standard input and, since the test harness prints on the standard output, where that
/// was before.
async fn connect() -> Client {
    let pipes = tokio::net::unix::pipe::OpenOptions::new();
    let input = pipes.open_receiver("/proc/self/fd/0").unwrap();
    let output = pipes.open_sender("/proc/self/fd/3").unwrap();
    let streams = tokio::io::join(input, output);
    let mut once = Some(TokioIo::new(streams));
    let connector = tower::service_fn(move |_: http::Uri| {
        std::future::ready(once.take().ok_or_else(|| std::io::Error::other("gone")))
    });
    let endpoint = Endpoint::from_static("http://bridge");
    let channel = endpoint.connect_with_connector(connector).await;
    let mut client = LlbBridgeClient::new(channel.unwrap());
    let pong = client.ping(gateway::PingRequest {}).await.unwrap();
    assert!(!pong.into_inner().workers.is_empty());
    client
}

pub(super) fn definition(ops: Vec<pb::Op>) -> pb::Definition {
    let mut def: Vec<Vec<u8>> = Vec::new();
    for mut op in ops {
        // each stands on the one before
        if let Some(below) = def
            .last()
            .filter(|_| !matches!(op.op, Some(pb::op::Op::Source(_))))
        {
            op.inputs = vec![pb::Input {
                digest: digest_of(below).to_string(),
                index: 0,
            }];
        }
        def.push(op.encode_to_vec());
    }
    let last = pb::Op {
        inputs: vec![pb::Input {
            digest: digest_of(def.last().unwrap()).to_string(),
            index: 0,
        }],
        ..pb::Op::default()
    };
    def.push(last.encode_to_vec());
    pb::Definition {
        def,
        ..pb::Definition::default()
    }
}

fn source(identifier: String) -> pb::Op {
    pb::Op {
        op: Some(pb::op::Op::Source(pb::SourceOp {
            identifier,
            ..pb::SourceOp::default()
        })),
        ..pb::Op::default()
    }
}

pub(super) fn mkfile(path: &str, data: &str, onto: bool) -> pb::Op {
    let action = pb::file_action::Action::Mkfile(pb::FileActionMkFile {
        path: path.to_owned(),
        mode: 0o644,
        data: data.into(),
        timestamp: -1,
        ..pb::FileActionMkFile::default()
    });
    pb::Op {
        op: Some(pb::op::Op::File(pb::FileOp {
            actions: vec![pb::FileAction {
                input: if onto { 0 } else { -1 },
                secondary_input: -1,
                output: 0,
                action: Some(action),
            }],
        })),
        ..pb::Op::default()
    }
}

pub(super) async fn solve(
    client: &mut Client,
    definition: pb::Definition,
) -> Result<gateway::Result, tonic::Status> {
    let request = gateway::SolveRequest {
        definition: Some(definition),
        allow_result_return: true,
        allow_result_array_ref: true,
        ..gateway::SolveRequest::default()
    };
    let solved = client.solve(request).await?;
    Ok(solved.into_inner().result.unwrap())
}

pub(super) fn reference(result: &gateway::Result) -> String {
    match &result.result {
        Some(gateway::result::Result::Ref(found)) => found.id.clone(),
        other => panic!("{other:?}"),
    }
}

pub(super) async fn read(
    client: &mut Client,
    id: &str,
    path: &str,
) -> Result<String, tonic::Status> {
    let request = gateway::ReadFileRequest {
        r#ref: id.to_owned(),
        file_path: path.to_owned(),
        ..gateway::ReadFileRequest::default()
    };
    let data = client.read_file(request).await?.into_inner().data;
    Ok(String::from_utf8(data).unwrap())
}

/// Reads `recipe` of the context: an image's name, and what a file on top of it is to hold.
async fn build(
    client: &mut Client,
    options: &HashMap<String, String>,
) -> Result<gateway::Result, String> {
    let text = |error: tonic::Status| error.message().to_owned();
    let inputs = client
        .inputs(gateway::InputsRequest {})
        .await
        .map_err(text)?;
    let context = inputs.into_inner().definitions.remove("context").unwrap();
    let context = solve(client, context).await.map_err(text)?;
    let recipe = read(client, &reference(&context), "recipe")
        .await
        .map_err(text)?;
    let (image, told) = recipe.trim().split_once(' ').unwrap();
    let request = gateway::ResolveImageConfigRequest {
        r#ref: image.to_owned(),
        ..gateway::ResolveImageConfigRequest::default()
    };
    let config = client.resolve_image_config(request).await.map_err(text)?;
    let config = config.into_inner();
    let own = std::fs::read("/run/config/buildkit/metadata/frontend.bin").unwrap();
    let own = pb::Definition::decode(own.as_slice()).unwrap();
    let told = format!(
        "{told}|{}|{}|{}",
        options.get("cmdline").map_or("", String::as_str),
        own.def.len(),
        std::env::var("BUILDKIT_WORKERS").is_ok_and(|list| list.contains("platforms")),
    );
    let base = source(format!("docker-image://{}", config.r#ref));
    let made = definition(vec![base, mkfile("/told", &told, true)]);
    let mut result = solve(client, made).await.map_err(text)?;
    let id = reference(&result);
    assert_eq!(read(client, &id, "/told").await.unwrap(), told);
    let request = gateway::StatFileRequest {
        r#ref: id.clone(),
        path: "/told".to_owned(),
        ..gateway::StatFileRequest::default()
    };
    let stat = client.stat_file(request).await.unwrap().into_inner().stat;
    assert_eq!(stat.unwrap().path, "told");
    let request = gateway::ReadDirRequest {
        r#ref: id.clone(),
        dir_path: "/".to_owned(),
        ..gateway::ReadDirRequest::default()
    };
    let entries = client.read_dir(request).await.unwrap().into_inner().entries;
    assert!(entries.iter().any(|entry| entry.path == "told"));
    let config = config.config;
    result.metadata = HashMap::from([("containerimage.config".to_owned(), config)]);
    Ok(result)
}

/// Names results that are not its own; says what it was answered.
async fn hostile(
    client: &mut Client,
    options: &HashMap<String, String>,
) -> Result<gateway::Result, String> {
    let foreign = options["foreign"].clone();
    let mut answers = Vec::new();
    answers.push(read(client, &foreign, "/secret").await.map(drop));
    let request = gateway::EvaluateRequest {
        r#ref: foreign.clone(),
    };
    answers.push(client.evaluate(request).await.map(drop));
    // a header of somebody else's build changes nothing
    let mut request = tonic::Request::new(gateway::ReadFileRequest {
        r#ref: foreign.clone(),
        file_path: "/secret".to_owned(),
        ..gateway::ReadFileRequest::default()
    });
    let head = "buildkit-controlapi-buildid";
    request
        .metadata_mut()
        .insert(head, options["build"].parse().unwrap());
    answers.push(client.read_file(request).await.map(drop));
    let mount = pb::Mount {
        dest: "/".to_owned(),
        result_id: foreign.clone(),
        ..pb::Mount::default()
    };
    let request = gateway::NewContainerRequest {
        container_id: "one".to_owned(),
        mounts: vec![mount.clone()],
        ..gateway::NewContainerRequest::default()
    };
    answers.push(client.new_container(request).await.map(drop));
    // what its client was not granted
    let scratch = solve(client, definition(vec![mkfile("/a", "b", false)])).await;
    let mine = pb::Mount {
        result_id: reference(&scratch.unwrap()),
        ..mount
    };
    let request = gateway::NewContainerRequest {
        container_id: "two".to_owned(),
        mounts: vec![mine],
        network: pb::NetMode::Host.into(),
        ..gateway::NewContainerRequest::default()
    };
    answers.push(client.new_container(request).await.map(drop));
    // no graph at all
    let broken = pb::Definition {
        def: vec![vec![0xff; 64]],
        ..pb::Definition::default()
    };
    answers.push(solve(client, broken).await.map(drop));
    // longer than a message may be
    let long = definition(vec![mkfile("/long", &"x".repeat(20 << 20), false)]);
    answers.push(solve(client, long).await.map(drop));
    let told = answers.iter().map(|answer| match answer {
        Ok(()) => "GRANTED".to_owned(),
        Err(status) => status.message().to_owned(),
    });
    let told: Vec<String> = told.collect();
    if options.contains_key("return") {
        return Ok(gateway::Result {
            result: Some(gateway::result::Result::Ref(gateway::Ref {
                id: foreign,
                def: None,
            })),
            ..gateway::Result::default()
        });
    }
    Err(told.join("\n"))
}

/// Asks itself, and so on.
async fn deep(
    client: &mut Client,
    options: HashMap<String, String>,
) -> Result<gateway::Result, String> {
    let request = gateway::SolveRequest {
        frontend: "gateway.v0".to_owned(),
        frontend_opt: options,
        allow_result_return: true,
        ..gateway::SolveRequest::default()
    };
    let solved = client.solve(request).await;
    let solved = solved.map_err(|error| error.message().to_owned())?;
    Ok(solved.into_inner().result.unwrap())
}

/// A call for processes.
pub(super) struct Talk {
    container: String,
    sender: tokio::sync::mpsc::Sender<gateway::ExecMessage>,
    pub(super) answers: tonic::Streaming<gateway::ExecMessage>,
}

impl Talk {
    async fn open(client: &mut Client) -> Self {
        Self::of(client, "box").await
    }

    pub(super) async fn of(client: &mut Client, container: &str) -> Self {
        let (sender, messages) = tokio::sync::mpsc::channel(16);
        let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
        let answers = client.exec_process(messages).await.unwrap().into_inner();
        Self {
            container: container.to_owned(),
            sender,
            answers,
        }
    }

    async fn send(&self, id: &str, input: Input) {
        let message = gateway::ExecMessage {
            process_id: id.to_owned(),
            input: Some(input),
        };
        self.sender.send(message).await.unwrap();
    }

    pub(super) async fn start(&self, id: &str, command: &str, tty: bool) {
        let init = gateway::InitMessage {
            container_id: self.container.clone(),
            meta: Some(pb::Meta {
                args: ["/bin/sh", "-c", command].map(str::to_owned).to_vec(),
                env: vec!["PATH=/bin".to_owned()],
                ..pb::Meta::default()
            }),
            fds: vec![0, 1, 2],
            tty,
            ..gateway::InitMessage::default()
        };
        self.send(id, Input::Init(init)).await;
    }

    async fn write(&self, id: &str, data: &str, eof: bool) {
        let file = gateway::FdMessage {
            fd: 0,
            eof,
            data: data.into(),
        };
        self.send(id, Input::File(file)).await;
    }

    /// What a process says until its output has a text.
    async fn until(&mut self, id: &str, text: &str) {
        let mut said = String::new();
        while !said.contains(text) {
            let message = self.answers.message().await.unwrap().unwrap();
            assert_eq!(message.process_id, id);
            match message.input.unwrap() {
                Input::File(file) => said.push_str(&String::from_utf8_lossy(&file.data)),
                Input::Started(_) => {}
                other => panic!("{said:?} and then {other:?}"),
            }
        }
    }

    /// What a process says until its end, and its exit code; what others say is left.
    async fn end(&mut self, id: &str) -> (String, u32) {
        let (mut said, mut code) = (String::new(), None);
        loop {
            let message = self.answers.message().await.unwrap().unwrap();
            if message.process_id != id {
                continue;
            }
            match message.input.unwrap() {
                Input::File(file) => said.push_str(&String::from_utf8_lossy(&file.data)),
                Input::Exit(exit) => code = Some(exit.code),
                Input::Done(_) => return (said, code.unwrap()),
                Input::Started(_) => {}
                other => panic!("{said:?} and then {other:?}"),
            }
        }
    }
}

/// Runs processes in a container on its own image.
async fn containers(client: &mut Client) -> Result<gateway::Result, String> {
    let own = std::fs::read("/run/config/buildkit/metadata/frontend.bin").unwrap();
    let own = pb::Definition::decode(own.as_slice()).unwrap();
    let image = reference(&solve(client, own).await.unwrap());
    let files = definition(vec![mkfile("/hello", "from a ref", false)]);
    let files = reference(&solve(client, files).await.unwrap());
    let mount = |dest: &str, id: &str, readonly| pb::Mount {
        dest: dest.to_owned(),
        result_id: id.to_owned(),
        readonly,
        ..pb::Mount::default()
    };
    let request = gateway::NewContainerRequest {
        container_id: "box".to_owned(),
        mounts: vec![mount("/", &image, false), mount("/in", &files, true)],
        hostname: "boxed".to_owned(),
        network: pb::NetMode::None.into(),
        ..gateway::NewContainerRequest::default()
    };
    client.new_container(request.clone()).await.unwrap();
    client.new_container(request).await.unwrap_err();
    let mut first = Talk::open(client).await;
    first
        .start(
            "1",
            "hostname; cat /in/hello; echo; cat; echo made >/made; sleep 1000",
            false,
        )
        .await;
    first.until("1", "from a ref").await;
    first.write("1", "typed", true).await;
    first.until("1", "typed").await;
    // another one in the same container
    let mut second = Talk::open(client).await;
    second
        .start(
            "2",
            "while ! test -e /made; do sleep 0.1; done; cat /made; exit 7",
            false,
        )
        .await;
    assert_eq!(second.end("2").await, ("made\n".to_owned(), 7));
    let request = gateway::ReadFileRequest {
        r#ref: "box".to_owned(),
        file_path: "/made".to_owned(),
        ..gateway::ReadFileRequest::default()
    };
    let made = client.read_file_container(request.clone()).await.unwrap();
    assert_eq!(made.into_inner().data, b"made\n");
    let request = gateway::ReadFileRequest {
        file_path: "/hello".to_owned(),
        mount_index: 1,
        ..request
    };
    let read = client.read_file_container(request.clone()).await.unwrap();
    assert_eq!(read.into_inner().data, b"from a ref");
    let request = gateway::ReadFileRequest {
        mount_index: 2,
        ..request
    };
    client.read_file_container(request).await.unwrap_err();
    // a terminal with a size, and a signal
    second
        .start(
            "3",
            "trap 'stty size; exit 3' TERM; stty size; echo up; while :; do sleep 0.1; done",
            true,
        )
        .await;
    second.until("3", "up").await;
    let size = gateway::ResizeMessage { rows: 33, cols: 77 };
    second.send("3", Input::Resize(size)).await;
    let signal = |name: &str| {
        Input::Signal(gateway::SignalMessage {
            name: name.to_owned(),
        })
    };
    second.send("3", signal("TERM")).await;
    let (said, code) = second.end("3").await;
    assert!(said.contains("33 77"), "{said:?}");
    assert_eq!(code, 3);
    second.start("4", "true", false).await;
    assert_eq!(second.end("4").await.1, 0);
    first.send("1", signal("KILL")).await;
    assert_eq!(first.end("1").await.1, 137);
    let request = gateway::ReleaseContainerRequest {
        container_id: "box".to_owned(),
    };
    client.release_container(request.clone()).await.unwrap();
    client.release_container(request).await.unwrap_err();
    second.start("5", "true", false).await;
    second.answers.message().await.unwrap_err();
    solve(client, definition(vec![mkfile("/all", "well", false)]))
        .await
        .map_err(|error| error.message().to_owned())
}
