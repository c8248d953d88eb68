//go:build !linux

package mounts

import (
	"context"
	"errors"
)

func serve(context.Context, string, *wire) error {
	return errors.New("only Linux has cache mounts")
}
