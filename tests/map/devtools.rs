//! One page of the browser, through the DevTools protocol: JSON over WebSocket.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::PATIENCE;

pub struct Page {
    socket: WebSocket<TcpStream>,
    session: Option<String>,
    calls: u64,
    /// What the page has complained of: exceptions, errors and warnings on its console or of the browser.
    pub complaints: Vec<String>,
}

impl Page {
    /// `address` is that of the browser: host, port and path.
    pub fn open(address: &str, width: u32, height: u32) -> Page {
        let (host, _) = address.split_once('/').expect("a path");
        let stream = TcpStream::connect(host).expect("it listens");
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let (socket, _) = tungstenite::client(format!("ws://{address}"), stream).expect("an upgrade");
        let mut page = Page { socket, session: None, calls: 0, complaints: Vec::new() };
        let target = page.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].take();
        let session = page.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        page.session = Some(session["sessionId"].as_str().expect("a session").to_owned());
        for domain in ["Page", "Runtime", "Log"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        page.call("Emulation.setDeviceMetricsOverride", size);
        page
    }

    pub fn go(&mut self, url: &str) {
        let gone = self.call("Page.navigate", json!({"url": url}));
        assert!(gone.get("errorText").is_none(), "{gone}");
    }

    /// What an expression of the page is.
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.call("Runtime.evaluate", asked);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Waits until an expression is true; what its value was otherwise is said if it never is.
    pub fn wait(&mut self, expression: &str) {
        self.wait_for(PATIENCE, expression);
    }

    pub fn wait_for(&mut self, patience: Duration, expression: &str) {
        let deadline = Instant::now() + patience;
        // Asked for once per frame: the page is to have time for itself.
        let looked = format!("new Promise((look) => requestAnimationFrame(() => look({expression})))");
        while self.value(&looked) != json!(true) {
            if Instant::now() > deadline {
                let numbers = self.value("JSON.stringify(window.ringroadMap)");
                panic!("waited in vain for {expression}: {numbers}; complaints: {:?}", self.complaints);
            }
        }
    }

    /// What the page says of itself.
    pub fn numbers(&mut self) -> Value {
        self.value("window.ringroadMap")
    }

    /// Presses at one place, moves in some steps to another, lets go.
    pub fn drag(&mut self, (from_x, from_y): (f64, f64), (to_x, to_y): (f64, f64)) {
        const STEPS: u32 = 8;
        self.mouse("mousePressed", from_x, from_y);
        for step in 1..=STEPS {
            let part = f64::from(step) / f64::from(STEPS);
            self.mouse("mouseMoved", from_x + (to_x - from_x) * part, from_y + (to_y - from_y) * part);
        }
        self.mouse("mouseReleased", to_x, to_y);
    }

    pub fn click(&mut self, x: f64, y: f64) {
        self.mouse("mousePressed", x, y);
        self.mouse("mouseReleased", x, y);
    }

    /// Clicks in the middle of an element.
    pub fn click_on(&mut self, selector: &str) {
        let middle = format!(
            "(() => {{ const box = document.querySelector('{selector}').getBoundingClientRect();
             return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        );
        let middle = self.value(&middle);
        self.click(middle[0].as_f64().expect("x"), middle[1].as_f64().expect("y"));
    }

    /// Turns the wheel; away from the hand, below zero, is into the map.
    pub fn wheel(&mut self, x: f64, y: f64, pixels: f64) {
        let turned = json!({"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": pixels});
        self.call("Input.dispatchMouseEvent", turned);
    }

    fn mouse(&mut self, kind: &str, x: f64, y: f64) {
        let down = if kind == "mouseReleased" { 0 } else { 1 };
        let moved = json!({"type": kind, "x": x, "y": y, "button": "left", "buttons": down, "clickCount": 1});
        self.call("Input.dispatchMouseEvent", moved);
    }

    /// The page as a PNG.
    pub fn photograph(&mut self) -> Vec<u8> {
        let picture = self.call("Page.captureScreenshot", json!({"format": "png"}));
        BASE64.decode(picture["data"].as_str().expect("a picture").as_bytes()).expect("base64")
    }

    /// How many pixels of a picture have each of some colours. The browser reads it: it is where PNG is understood.
    pub fn count_colours(&mut self, png: &[u8], colours: &[[u8; 3]]) -> Vec<u64> {
        let counted = self.value(&format!(
            "(async () => {{
                const image = new Image();
                image.src = 'data:image/png;base64,{}';
                await image.decode();
                const canvas = new OffscreenCanvas(image.width, image.height);
                const context = canvas.getContext('2d');
                context.drawImage(image, 0, 0);
                const pixels = context.getImageData(0, 0, image.width, image.height).data;
                return {colours:?}.map(([red, green, blue]) => {{
                    let count = 0;
                    for (let at = 0; at < pixels.length; at += 4) {{
                        if (pixels[at] === red && pixels[at + 1] === green && pixels[at + 2] === blue) count += 1;
                    }}
                    return count;
                }});
            }})()",
            BASE64.encode(png)
        ));
        counted.as_array().expect("counts").iter().map(|count| count.as_u64().expect("a count")).collect()
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut message = json!({"id": self.calls, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(message.to_string())).expect("sent");
        loop {
            let message = self.socket.read().unwrap_or_else(|error| panic!("{method}: {error}"));
            let Message::Text(text) = message else { continue };
            let mut message: Value = serde_json::from_str(&text).expect("JSON");
            if message["id"] == json!(self.calls) {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].take();
            }
            self.hear(&message);
        }
    }

    fn hear(&mut self, message: &Value) {
        let said = &message["params"];
        let is_complaint = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => said["type"] == "error" || said["type"] == "warning",
            Some("Log.entryAdded") => said["entry"]["level"] == "error" || said["entry"]["level"] == "warning",
            _ => false,
        };
        if is_complaint {
            self.complaints.push(said.to_string());
        }
    }
}
