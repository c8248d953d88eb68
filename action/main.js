'use strict';

// The action: find the program, start it with what the inputs say, and end
// as it ends. Outputs, annotations and the summary are the program's own.

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const { findBinary } = require('./binary');
const { commandLine, program, secretsDirectory } = require('./commandline');
const { run } = require('./child');
const runner = require('./runner');
const release = require('./release.json');

async function main(env) {
  const directory = fs.mkdtempSync(path.join(env.RUNNER_TEMP || os.tmpdir(), `${program}-`));
  runner.saveState(env, 'directory', directory);
  try {
    const { args, env: childEnv, warnings } = commandLine(env, directory);
    warnings.forEach(runner.warning);
    const binary = await findBinary(env, release, runner.log);
    // Before the start: a cancelled step may end without another word.
    runner.saveState(env, 'binary', binary);
    process.exitCode = await run(binary, args, { env: childEnv });
  } finally {
    fs.rmSync(secretsDirectory(directory), { recursive: true, force: true });
  }
}

main(process.env).catch(err => {
  runner.error(err.message);
  process.exitCode = 1;
});
