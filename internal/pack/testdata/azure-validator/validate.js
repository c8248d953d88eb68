'use strict';

// Validates pipelines and templates as the editor extension of Azure
// Pipelines does: validate.js SCHEMA FILE... prints a JSON array of
// {file, line, message}.

const fs = require('fs');
const { getLanguageService } = require('azure-pipelines-language-service');
const { parse } = require('azure-pipelines-language-service/lib/parser/yamlParser');
const { TextDocument } = require('vscode-languageserver-textdocument');

const log = console.log;
console.log = () => {}; // the service talks

const [schemaFile, ...files] = process.argv.slice(2);
// An object: given a string, the service accepts everything.
const schema = JSON.parse(fs.readFileSync(schemaFile, 'utf8'));
const service = getLanguageService(
  async () => schema,
  [],
  async () => 'file:///schema.json',
  { resolveRelativePath: relative => relative },
);
service.configure({ validate: true });

(async () => {
  const faults = [];
  for (const file of files) {
    const document = TextDocument.create('file:///' + file, 'azure-pipelines', 1, fs.readFileSync(file, 'utf8'));
    for (const fault of (await service.doValidation(document, parse(document.getText()))) || []) {
      faults.push({ file, line: fault.range.start.line + 1, message: fault.message });
    }
  }
  log(JSON.stringify(faults));
})();
