'use strict';

// Inputs that hold lists are written as docker/build-push-action documents
// them: one entry a line, or entries separated by commas, in CSV quoting
// (RFC 4180), so that a quoted entry may span lines. A quote within an entry
// that does not begin with one stands for itself.
// https://github.com/docker/actions-toolkit/blob/main/src/util.ts

// list splits at commas and at line breaks, and trims the entries.
function list(text, options = {}) {
  return records(text, options)
    .flat()
    .map(entry => entry.trim())
    .filter(entry => entry !== '');
}

// lines splits at line breaks only: commas belong to an entry. Options are
// quotes: false where quotes do too, and trim: false where white space does.
function lines(text, options = {}) {
  return records(text, options)
    .map(fields => fields.join(','))
    .map(entry => (options.trim === false ? entry : entry.trim()))
    .filter(entry => entry !== '');
}

// records reads CSV of any number of columns. Empty lines make no record.
function records(text, { quotes = true } = {}) {
  const all = [];
  let fields = [];
  let at = 0;
  while (at < text.length) {
    const field = (quotes && quotedField(text, at)) || plainField(text, at);
    fields.push(field.value);
    at = field.end;
    if (text[at] === ',') {
      at++;
      if (at === text.length) fields.push('');
      continue;
    }
    at += text[at] === '\r' ? 2 : 1;
    if (fields.length > 1 || fields[0] !== '') all.push(fields);
    fields = [];
  }
  if (fields.length > 0) all.push(fields);
  return all;
}

// endsField tells whether a field is over at this place.
function endsField(text, at) {
  return at >= text.length || text[at] === ',' || text[at] === '\n' || text.startsWith('\r\n', at);
}

function plainField(text, start) {
  let end = start;
  while (!endsField(text, end)) end++;
  return { value: text.slice(start, end), end };
}

// quotedField is undefined where no quoted field begins.
function quotedField(text, start) {
  if (text[start] !== '"') return undefined;
  let value = '';
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] !== '"') {
      value += text[at];
    } else if (text[at + 1] === '"') {
      value += '"';
      at++;
    } else if (endsField(text, at + 1)) {
      return { value, end: at + 1 };
    } else {
      return undefined; // "a" b: the quotes stand for themselves
    }
  }
  throw new Error('a quote is not closed');
}

// csv joins fields into one line, as the values of --secret and its like are
// written.
function csv(fields) {
  return fields.map(field => (/[",\r\n]/.test(field) ? '"' + field.replaceAll('"', '""') + '"' : field)).join(',');
}

module.exports = { list, lines, csv };
