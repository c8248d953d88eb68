// Package pack makes the one file that a CI platform takes out of several: the
// CircleCI orb, as circleci orb pack does, which needs the network, and the
// template for Azure Pipelines. Both hold the same scripts, which stand as
// files of their own so that they can be checked and run. Its tests prove the
// packed files, script by script.
package pack

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// folders are the parts of an orb that have a folder of files, in the order
// of the packed file.
var folders = []string{"commands", "executors", "jobs", "examples"}

// include is a value that stands for a file.
// https://circleci.com/docs/orbs/author/orb-concepts/#file-include-syntax
var include = regexp.MustCompile(`^<<\s*include\(([-\w/.]+)\)\s*>>$`)

// Orb packs the folder src of an orb.
func Orb(src fs.FS) ([]byte, error) {
	root, err := readYAML(src, "@orb.yml")
	if err != nil {
		return nil, err
	}
	for _, folder := range folders {
		part, err := packFolder(src, folder)
		if err != nil {
			return nil, err
		}
		if len(part.Content) > 0 {
			root.Content = append(root.Content, scalar(folder), part)
		}
	}
	return encode(src, root, escapeParameters)
}

// Template packs a template of Azure Pipelines. Files are included by their
// paths in src.
func Template(src fs.FS, file string) ([]byte, error) {
	root, err := readYAML(src, file)
	if err != nil {
		return nil, err
	}
	return encode(src, root, func(script string) string { return script })
}

// escapeParameters keeps CircleCI from taking a here-document for one of its
// parameters.
func escapeParameters(script string) string {
	return strings.ReplaceAll(script, "<<", `\<<`)
}

func encode(src fs.FS, root *yaml.Node, escape func(string) string) ([]byte, error) {
	if err := expandIncludes(src, root, escape); err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	encoder := yaml.NewEncoder(&packed)
	encoder.SetIndent(2)
	if err := encoder.Encode(root); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	return packed.Bytes(), nil
}

// packFolder makes a mapping of file names to files.
func packFolder(src fs.FS, folder string) (*yaml.Node, error) {
	part := &yaml.Node{Kind: yaml.MappingNode}
	files, err := fs.Glob(src, folder+"/*.yml")
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	for _, file := range files {
		node, err := readYAML(src, file)
		if err != nil {
			return nil, err
		}
		part.Content = append(part.Content, scalar(strings.TrimSuffix(path.Base(file), ".yml")), node)
	}
	return part, nil
}

// readYAML gives the mapping that a file holds.
func readYAML(src fs.FS, file string) (*yaml.Node, error) {
	source, err := fs.ReadFile(src, file)
	if err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(source, &document); err != nil {
		return nil, fmt.Errorf("parse %s: %w", file, err)
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("parse %s: not a mapping", file)
	}
	return document.Content[0], nil
}

func scalar(value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Value: value}
}

// expandIncludes puts files in the place of the values that name them.
func expandIncludes(src fs.FS, node *yaml.Node, escape func(string) string) error {
	if match := include.FindStringSubmatch(node.Value); node.Kind == yaml.ScalarNode && match != nil {
		content, err := fs.ReadFile(src, match[1])
		if err != nil {
			return fmt.Errorf("include: %w", err)
		}
		node.Value = escape(string(content))
		node.Style = yaml.LiteralStyle
	}
	for _, child := range node.Content {
		if err := expandIncludes(src, child, escape); err != nil {
			return err
		}
	}
	return nil
}
