//! Registers handlers, and remembers which methods each path takes, so that a wrong one is answered with those.

use std::cell::RefCell;
use std::rc::Rc;

use actix_web::dev::ResourceDef;
use actix_web::http::Method;
use actix_web::web::{self, ServiceConfig};
use actix_web::{FromRequest, Handler, Responder, Route};

/// The methods of every path. Each thread that serves has its own.
#[derive(Clone, Default)]
pub struct Methods(Rc<RefCell<Vec<(ResourceDef, Method)>>>);

impl Methods {
    /// The methods that a path takes, as `Allow` lists them; `None` where nothing is served.
    pub fn allowed(&self, path: &str) -> Option<String> {
        let entries = self.0.borrow();
        let mut allowed: Vec<&str> = Vec::new();
        for (pattern, method) in entries.iter() {
            if pattern.is_match(path) && !allowed.contains(&method.as_str()) {
                allowed.push(method.as_str());
            }
        }
        if allowed.is_empty() {
            return None;
        }
        if allowed.contains(&"GET") {
            allowed.push("HEAD");
        }
        allowed.push("OPTIONS");
        Some(allowed.join(", "))
    }
}

/// Where the modules that serve say what they serve.
pub struct Routes<'a> {
    config: &'a mut ServiceConfig,
    /// What stands before every path.
    prefix: String,
    methods: Methods,
}

impl<'a> Routes<'a> {
    pub fn new(config: &'a mut ServiceConfig, methods: Methods) -> Self {
        Self {
            config,
            prefix: String::new(),
            methods,
        }
    }

    pub fn get<F, Args>(&mut self, path: &str, handler: F) -> &mut Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.add(Method::GET, path, web::get().to(handler))
    }

    pub fn post<F, Args>(&mut self, path: &str, handler: F) -> &mut Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.add(Method::POST, path, web::post().to(handler))
    }

    pub fn delete<F, Args>(&mut self, path: &str, handler: F) -> &mut Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.add(Method::DELETE, path, web::delete().to(handler))
    }

    fn add(&mut self, method: Method, path: &str, route: Route) -> &mut Self {
        let pattern = ResourceDef::new(format!("{}{path}", self.prefix));
        self.methods.0.borrow_mut().push((pattern, method));
        self.config.route(path, route);
        self
    }

    /// What `register` adds.
    pub fn with(&mut self, register: impl FnOnce(&mut Routes)) -> &mut Self {
        register(self);
        self
    }

    /// What `register` adds, below `prefix`.
    pub fn below(&mut self, prefix: &str, register: impl FnOnce(&mut Routes)) -> &mut Self {
        let (methods, full) = (self.methods.clone(), format!("{}{prefix}", self.prefix));
        let scope = web::scope(prefix).configure(|config| {
            register(&mut Routes {
                config,
                prefix: full,
                methods,
            })
        });
        self.config.service(scope);
        self
    }
}
