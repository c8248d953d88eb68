'use strict';

// What runs at the end of the job, cancelled or not: finish saving what a
// build that was cut short left on the engine. Whatever becomes of that, the
// job's result stays.

const fs = require('node:fs');

const { stateFile } = require('./commandline');
const { run } = require('./child');
const runner = require('./runner');

// A cancelled job is ended by the server after 5 minutes, all its posts
// included.
// https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-cancellation
const saveTimeout = '4m';
const limit = 4 * 60_000 + 15_000;

async function post(env) {
  const { STATE_binary: binary, STATE_directory: directory } = env;
  if (!directory) return;
  try {
    const state = stateFile(directory);
    if (!binary || !fs.existsSync(state)) return; // nothing was begun, or nothing is left
    const status = await run(binary, ['save', `--state=${state}`, `--timeout=${saveTimeout}`], { env: withoutInputs(env), limit });
    if (status !== 0) runner.warning(`the rest of the cache was not saved (exit status ${status}); the next build repeats those steps`);
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

function withoutInputs(env) {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('INPUT_')));
}

post(process.env).catch(err => runner.warning(`save the rest of the cache: ${err.message}`));
