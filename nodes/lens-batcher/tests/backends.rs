//! Each service against a local server: what is sent, what documented answers become, and every way to
//! go wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod replay;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use replay::{Reply, Request, Server};
use serde_json::{Value, json};
use tracklens_lens_batcher::backend::{
    Backend, HttpClient, HttpService, HttpServiceBackend, ImageServer, PicturePlace, SerpApi,
    SerpApiBackend, Shot, Vision, VisionBackend,
};
use tracklens_lens_batcher::candidate::View;
use tracklens_lens_batcher::hash_cache::Answer;
use tracklens_lens_batcher::secret::Secret;
use tracklens_lens_batcher::{CallError, LensError, Picture};
use tracklens_schemas::{BBox, TrackId};

const KEY: &str = "s3cr3t/k+y";
const LIMIT: Duration = Duration::from_millis(1500);

fn key() -> Secret {
    Secret::new(KEY)
}

fn shots(count: u32) -> Vec<Shot> {
    (0..count)
        .map(|track| Shot {
            track: TrackId(track),
            view: Arc::new(View {
                frame: 0,
                picture: Picture::new(16, 8, vec![40 * track as u8; 384]).unwrap(),
                bbox: BBox::new(0.0, 0.0, 16.0, 8.0),
                sharpness: 1.0,
                quality: 1.0,
            }),
        })
        .collect()
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

/// What the documentation of `images:annotate` shows, shortened.
const VISION_CAR: &str = r#"{"webDetection": {
    "webEntities": [
        {"entityId": "/m/02p7_j8", "score": 1.44225, "description": "Carnival in Rio de Janeiro"},
        {"entityId": "/m/06gmr", "score": 1.1913, "description": "Rio de Janeiro"},
        {"entityId": "/m/0", "score": 9.0}],
    "fullMatchingImages": [{"url": "https://example.com/1.jpg"}],
    "pagesWithMatchingImages": [{"url": "https://example.com/", "pageTitle": "Street Carnival"}],
    "visuallySimilarImages": [{"url": "https://example.com/2.jpg"}],
    "bestGuessLabels": [{"label": "rio carnival", "languageCode": "en"}]}}"#;

fn vision(url: &str) -> VisionBackend {
    VisionBackend::new(Vision::new(url, key(), LIMIT))
}

#[test]
fn vision_sends_pictures_in_one_request_and_reads_documented_answers() {
    let answer = format!(
        r#"{{"responses": [{VISION_CAR}, {{}}, {{"error": {{"code": 14, "message": "try later"}}}},
            {{"error": {{"code": 3, "message": "Bad image data."}}}},
            {{"webDetection": {{"webEntities": [{{"score": 0.5, "description": "cup"}}]}}}}]}}"#
    );
    let server = Server::start(move |_, _| Reply::Http(200, "", answer.clone()));
    let answers = vision(&server.url).identify(&shots(5)).unwrap();
    let carnival = Answer {
        name: "rio carnival".into(),
        category: "Carnival in Rio de Janeiro".into(),
        description: "Street Carnival".into(),
        confidence: 1.0,
        dimensions: None,
    };
    assert_eq!(answers[0], Ok(carnival));
    assert_eq!(answers[1], Ok(Answer::default()));
    assert!(answers[2].as_ref().unwrap_err().retryable);
    assert!(!answers[3].as_ref().unwrap_err().retryable);
    let cup = answers[4].as_ref().unwrap();
    assert_eq!((cup.name.as_str(), cup.confidence), ("cup", 0.5));

    let request = &server.requests()[0];
    assert_eq!(request.line, "POST /v1/images:annotate HTTP/1.1");
    assert!(request.headers.contains(&format!("x-goog-api-key: {KEY}")));
    let sent = body(request);
    let list = sent["requests"].as_array().unwrap();
    assert_eq!(list.len(), 5);
    assert_eq!(
        list[0]["features"],
        json!([{"type": "WEB_DETECTION", "maxResults": 10}])
    );
    let file = STANDARD
        .decode(list[4]["image"]["content"].as_str().unwrap())
        .unwrap();
    let picture = Picture::read(&file).unwrap();
    assert_eq!((picture.width, picture.height), (16, 8));
}

/// Every way in which a server fails, as the client tells it.
#[test]
fn every_failure_has_its_name() {
    let fails = |reply: fn() -> Reply| {
        let server = Server::start(move |_, _| reply());
        vision(&server.url).identify(&shots(2)).unwrap_err()
    };
    let refused = vision("http://127.0.0.1:9")
        .identify(&shots(1))
        .unwrap_err();
    assert_eq!(
        (refused.word(), refused.is_retryable()),
        ("connection", true)
    );
    let slow = fails(|| Reply::Slow(Duration::from_secs(20), "{}".into()));
    assert_eq!(slow, CallError::Timeout { limit: LIMIT });
    let cut = fails(|| Reply::Cut(120, VISION_CAR.into()));
    assert_eq!(
        (cut.word(), cut.is_retryable()),
        ("connection", true),
        "{cut}"
    );
    let nothing = fails(|| Reply::Cut(0, String::new()));
    assert_eq!(nothing.word(), "connection", "{nothing}");
    let limited = fails(|| Reply::Http(429, "Retry-After: 7\r\n", "slow down".into()));
    let wait = Some(Duration::from_secs(7));
    assert_eq!(
        limited,
        CallError::RateLimited {
            wait,
            said: "slow down".into()
        }
    );
    let unavailable = fails(|| Reply::Http(503, "Retry-After: 2\r\n", String::new()));
    assert_eq!(
        (unavailable.word(), unavailable.wait()),
        ("server_error", Some(Duration::from_secs(2)))
    );
    let forbidden = fails(|| Reply::Http(403, "", format!("API key {KEY} not valid")));
    assert!(!forbidden.is_retryable() && forbidden.is_the_service());
    assert_eq!(
        forbidden.to_string(),
        "the service answers 403, asking again will not help: API key *** not valid"
    );
    let moved = fails(|| Reply::Http(302, "Location: http://127.0.0.1:9/\r\n", String::new()));
    assert_eq!(moved.word(), "refused");
    for text in [
        "not JSON",
        "{\"responses\": [",
        "[]",
        "{}",
        "{\"responses\": [{}]}",
        "{\"responses\": 3}",
        "",
    ] {
        let server = Server::start(move |_, _| Reply::Http(200, "", text.into()));
        let error = vision(&server.url).identify(&shots(2)).unwrap_err();
        assert_eq!(error.word(), "malformed", "{text}: {error}");
    }
    let endless = fails(|| Reply::Http(200, "", " ".repeat(9 << 20)));
    assert_eq!(endless.word(), "malformed", "{endless}");
}

/// What SerpApi's documentation of `google_lens` shows, shortened.
const LENS_MATCHES: &str = r#"{"search_metadata": {"status": "Success"}, "visual_matches": [
    {"position": 1, "title": "Danny DeVito - Wikipedia", "link": "https://en.wikipedia.org/", "source": "Wikipedia",
     "thumbnail": "https://example.com/t.jpg", "price": {"value": "$3", "extracted_value": 3}},
    {"position": 2, "title": "Danny DeVito biography", "source": "IMDb"},
    {"position": 3, "title": "A red lamp", "source": "Shop"}]}"#;

fn serpapi(url: &str, place: PicturePlace) -> SerpApiBackend {
    SerpApiBackend::new(SerpApi::new(
        &format!("{url}/search.json"),
        key(),
        LIMIT,
        place,
    ))
}

fn own_server() -> PicturePlace {
    let server = ImageServer::start("127.0.0.1:0").unwrap();
    PicturePlace::Own {
        public: format!("http://{}", server.address()),
        server: Arc::new(server),
    }
}

/// The value of a parameter in a request line, decoded.
fn parameter(line: &str, name: &str) -> String {
    let from = line.find(&format!("{name}=")).unwrap() + name.len() + 1;
    let value: String = line[from..]
        .chars()
        .take_while(|c| !"& ".contains(*c))
        .collect();
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn serpapi_is_given_an_address_from_which_it_fetches_the_picture() {
    let server = Server::start(|_, request| {
        // As the service would, while the call is on its way.
        let address = parameter(&request.line, "url");
        let mut file = ureq::get(&address).call().unwrap();
        let picture = Picture::read(&file.body_mut().read_to_vec().unwrap()).unwrap();
        assert_eq!((picture.width, picture.height), (16, 8));
        Reply::Http(200, "", LENS_MATCHES.into())
    });
    // Kept until the end: it is not the server that goes, but the picture.
    let mut backend = serpapi(&server.url, own_server());
    let answers = backend.identify(&shots(1)).unwrap();
    let answer = answers[0].as_ref().unwrap();
    assert_eq!(
        (answer.name.as_str(), answer.description.as_str()),
        ("Danny DeVito - Wikipedia", "Wikipedia")
    );
    assert!((answer.confidence - 2.0 / 3.0).abs() < 1e-6);
    let line = &server.requests()[0].line;
    assert!(
        line.starts_with("GET /search.json?engine=google_lens&type=visual_matches&url="),
        "{line}"
    );
    assert_eq!(parameter(line, "api_key"), KEY);
    let gone = ureq::get(parameter(line, "url")).call();
    assert!(
        matches!(gone, Err(ureq::Error::StatusCode(404))),
        "{gone:?}"
    );
}

#[test]
fn serpapi_errors_and_empty_results_are_told_apart() {
    let place = own_server();
    let nothing =
        Server::json(r#"{"error": "Google hasn't returned any results for this query."}"#);
    let answers = serpapi(&nothing.url, place.clone())
        .identify(&shots(1))
        .unwrap();
    assert_eq!(answers, [Ok(Answer::default())]);
    let invalid = Server::start(|_, _| {
        Reply::Http(401, "", format!(r#"{{"error": "Invalid API key {KEY}"}}"#))
    });
    let error = serpapi(&invalid.url, place.clone())
        .identify(&shots(1))
        .unwrap_err();
    assert!(
        error.is_the_service() && !error.to_string().contains(KEY),
        "{error}"
    );
    let failed = Server::json(r#"{"error": "We couldn't fetch the image"}"#);
    let error = serpapi(&failed.url, place.clone())
        .identify(&shots(1))
        .unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let gone = serpapi("http://127.0.0.1:9", place)
        .identify(&shots(1))
        .unwrap_err();
    assert!(!gone.to_string().contains("s3cr3t"), "{gone}");
}

#[test]
fn pictures_can_be_put_into_a_store() {
    let store = Server::json("");
    let server = Server::json(LENS_MATCHES);
    let place = PicturePlace::Store {
        put: format!("{}/bucket/{{name}}.jpg?signature=x", store.url),
        get: "https://cdn.example/{name}.jpg".into(),
        client: HttpClient::new(LIMIT, &key()),
    };
    serpapi(&server.url, place.clone())
        .identify(&shots(2))
        .unwrap();
    let puts = store.requests();
    let names: Vec<&str> = puts
        .iter()
        .map(|put| &put.line["PUT /bucket/".len()..][..32])
        .collect();
    assert_ne!(names[0], names[1]);
    for ((put, name), call) in puts.iter().zip(names).zip(server.requests()) {
        Picture::read(&put.body).unwrap();
        assert_eq!(
            parameter(&call.line, "url"),
            format!("https://cdn.example/{name}.jpg")
        );
    }
    let full = Server::start(|_, _| Reply::Http(507, "", "full".into()));
    let place = PicturePlace::Store {
        put: format!("{}/{{name}}", full.url),
        get: "https://cdn.example/{name}".into(),
        client: HttpClient::new(LIMIT, &key()),
    };
    let error = serpapi(&server.url, place).identify(&shots(1)).unwrap_err();
    assert_eq!(error.word(), "server_error");
}

#[test]
fn the_image_server_gives_out_nothing_but_what_is_named() {
    let server = ImageServer::start("127.0.0.1:0").unwrap();
    server.put("a1b2", vec![1, 2, 3]);
    let get = |path: &str| {
        let call = ureq::get(format!("http://{}{path}", server.address())).call();
        call.map(|mut found| found.body_mut().read_to_vec().unwrap())
    };
    assert_eq!(get("/a1b2.jpg").unwrap(), [1, 2, 3]);
    for path in [
        "/",
        "/a1b2",
        "/a1b3.jpg",
        "/..%2f..%2fetc%2fpasswd",
        "/a1b2.jpg/x",
    ] {
        assert!(
            matches!(get(path), Err(ureq::Error::StatusCode(404))),
            "{path}"
        );
    }
    server.remove("a1b2");
    assert!(get("/a1b2.jpg").is_err());
    let taken = ImageServer::start(&server.address().to_string())
        .unwrap_err()
        .to_string();
    assert!(taken.contains("set it to a free address"), "{taken}");
}

const DESCRIPTION: &str = r#"
request:
  url: http://service.example/v2/classify?k={{key}}
  headers: {authorization: "Bearer {{key}}"}
  most: 8
  body: {model: large, images: {each: {jpeg: "{{image}}", size: ["{{width}}", "{{height}}"], id: "{{track_id}}"}}}
answer:
  list: /results
  name: /best/label
  category: /best/kind
  confidence: /best/score
  dimensions: /size
  least_confidence: 0.3
"#;

fn described(text: &str, url: Option<&str>, key: Secret) -> Result<HttpService, LensError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("service.yml");
    std::fs::write(&file, text).unwrap();
    HttpService::read(&file, url, key, LIMIT)
}

#[test]
fn any_json_service_is_asked_as_described() {
    let server = Server::json(
        r#"{"results": [{"best": {"label": "mug", "kind": "cup", "score": 0.75}, "size": {"h": 9}},
                        {"best": {"label": "dog", "score": 0.2}}, {"best": null}]}"#,
    );
    let url = format!("{}/x?k={{{{key}}}}", server.url);
    let service = described(DESCRIPTION, Some(&url), key()).unwrap();
    let answers = HttpServiceBackend::new(service)
        .identify(&shots(3))
        .unwrap();
    let mug = Answer {
        name: "mug".into(),
        category: "cup".into(),
        confidence: 0.75,
        dimensions: Some(r#"{"h":9}"#.into()),
        ..Answer::default()
    };
    assert_eq!(
        answers,
        [Ok(mug), Ok(Answer::default()), Ok(Answer::default())]
    );
    let request = &server.requests()[0];
    assert_eq!(request.line, "POST /x?k=s3cr3t%2Fk%2By HTTP/1.1");
    assert!(
        request
            .headers
            .contains(&format!("authorization: bearer {KEY}"))
    );
    let sent = body(request);
    assert_eq!(
        (&sent["model"], &sent["images"][2]["id"]),
        (&json!("large"), &json!(2))
    );
    assert_eq!(sent["images"][0]["size"], json!([16, 8]));
    let file = STANDARD
        .decode(sent["images"][1]["jpeg"].as_str().unwrap())
        .unwrap();
    Picture::read(&file).unwrap();
}

#[test]
fn answers_that_do_not_fit_the_description_are_malformed() {
    for text in ["{}", r#"{"results": {}}"#, r#"{"results": [{}]}"#, "no"] {
        let server = Server::start(move |_, _| Reply::Http(200, "", text.into()));
        let service = described(DESCRIPTION, Some(&server.url), key()).unwrap();
        let error = HttpServiceBackend::new(service)
            .identify(&shots(2))
            .unwrap_err();
        assert_eq!(error.word(), "malformed", "{text}: {error}");
    }
}

#[test]
fn a_description_that_cannot_work_is_refused_at_the_start() {
    let says = |text: &str, key| described(text, None, key).unwrap_err().to_string();
    assert!(says(DESCRIPTION, Secret::default()).contains("LENS_API_KEY"));
    let change = |from: &str, to: &str| says(&DESCRIPTION.replace(from, to), key());
    assert!(change("{{image}}", "{{imgae}}").contains("{{imgae}} is not known"));
    assert!(change("list: /results", "").contains("needs an `each`"));
    assert!(change("/best/label", "best.label").contains("begin with a slash"));
    assert!(change("most: 8", "most: 0").contains("1 to 1000"));
    assert!(change("least_confidence", "least").contains("unknown field"));
}
