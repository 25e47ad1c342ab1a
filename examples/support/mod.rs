//! Speaks to a running server, for the programs that measure one.

use serde_json::Value;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

pub fn get(url: &str) -> Result<Value> {
    read(ureq::get(url).call()?)
}

pub fn post(url: &str, body: &Value) -> Result<Value> {
    let request = ureq::post(url).header("content-type", "application/json");
    read(request.send(body.to_string())?)
}

fn read(mut response: ureq::http::Response<ureq::Body>) -> Result<Value> {
    Ok(serde_json::from_reader(response.body_mut().as_reader())?)
}

/// Uploads a file and returns its id.
pub fn upload(base: &str, filename: &str, content: &[u8]) -> Result<String> {
    let mut body = format!(
        "--limit\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nassistants\r\n--limit\r\n\
         content-disposition: form-data; name=\"file\"; filename=\"{filename}\"\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(content);
    body.extend_from_slice(b"\r\n--limit--\r\n");
    let request = ureq::post(format!("{base}/v1/files"))
        .header("content-type", "multipart/form-data; boundary=limit");
    let file = read(request.send(&body[..])?)?;
    Ok(file["id"].as_str().ok_or("no file id")?.to_string())
}
