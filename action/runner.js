'use strict';

// What the shim itself says to the runner. The program speaks for itself.

const crypto = require('node:crypto');
const fs = require('node:fs');

// command writes a workflow command, with its text escaped.
function command(name, message) {
  const text = message.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A');
  process.stdout.write(`::${name}::${text}\n`);
}

const error = message => command('error', message);
const warning = message => command('warning', message);

const log = message => process.stdout.write(`remote-cache: ${message}\n`);

// saveState keeps a value for post. The delimiter cannot be foreseen, so no
// value can end it and begin another.
function saveState(env, name, value) {
  if (!env.GITHUB_STATE) return;
  const delimiter = crypto.randomUUID();
  fs.appendFileSync(env.GITHUB_STATE, `${name}<<${delimiter}\n${value}\n${delimiter}\n`);
}

module.exports = { error, warning, log, saveState };
