'use strict';

const { spawn } = require('node:child_process');
const os = require('node:os');

// run starts a program and returns its exit status, 128 + N for one that
// signal N ended. A runner that cancels a job signals only this process
// (SIGINT, 7.5 s later SIGTERM, 2.5 s later SIGKILL; actions/runner
// ProcessInvoker.cs), so signals are handed on. On Windows the whole console
// gets the event, and a signal sent from here would kill.
//
// A program that outlives limit, in milliseconds, is killed.
function run(file, args, { env, limit }) {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { env, stdio: 'inherit', shell: false, windowsHide: true });
    const forward = signal => process.platform !== 'win32' && child.kill(signal);
    const signals = ['SIGINT', 'SIGTERM'];
    for (const signal of signals) process.on(signal, forward);
    const alarm = limit && setTimeout(() => child.kill('SIGKILL'), limit);
    const settle = (how, value) => {
      for (const signal of signals) process.off(signal, forward);
      clearTimeout(alarm);
      how(value);
    };
    child.once('error', err => settle(reject, new Error(`start ${file}: ${err.code ?? err.message}`)));
    child.once('exit', (code, signal) => settle(resolve, code ?? 128 + os.constants.signals[signal]));
  });
}

module.exports = { run };
