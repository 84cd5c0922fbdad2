// Brigd is the node agent: it serves brig.v1 on a unix socket, keeps what it is told
// in its store, and has sandboxes made, watched and ended.
//
//	brigd [--config FILE] [--socket PATH] [--log-format text|json] [--debug]
//	brigd --standalone DIR [--socket PATH]
//	brigd --teardown [--force] [--config FILE]
//	brigd --rebuild-store [--force] [--config FILE]
//
// With --standalone it is a throwaway node that keeps everything under DIR and takes
// all of it away when it ends in order; after a kill -9 another one in the same DIR
// finds everything again. Once it serves it prints "brigd: ready on SOCKET".
//
// --teardown serves nobody: it removes everything that a node holds on the machine,
// and refuses while sandboxes live unless --force is given.
//
// --rebuild-store serves nobody: it puts a new store in the place of one that is refused,
// made of the copies of records that lie with the sandboxes, and keeps the old file.
//
// A store that brigd refuses is exit status 78: to start it again changes nothing.
//
// --containerd-config prints the configuration that a containerd of the node's own
// wants, for a unit that starts one, and ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"brig/internal/config"
	"brig/internal/version"
	"brig/nodeagent/containerd"
	"brig/nodeagent/daemon"
	"brig/nodeagent/standalone"
	"brig/nodeagent/store"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, store.ErrRefused):
		fmt.Fprintln(os.Stderr, "brigd:", err)
		os.Exit(statusRefused)
	case err != nil:
		fmt.Fprintln(os.Stderr, "brigd:", err)
		os.Exit(1)
	}
}

// statusRefused is sysexits' EX_CONFIG, which the unit does not restart brigd after.
const statusRefused = 78

type options struct {
	config, socket, standalone string
	logFormat                  string
	containerd, version, debug bool
	teardown, rebuild, force   bool
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.version {
		fmt.Println(version.Version)
		return nil
	}
	if o.standalone != "" {
		if o.config, err = standalone.Prepare(o.standalone); err != nil {
			return err
		}
	}
	path := config.Path(o.config)
	cfg, err := config.Load(path)
	if err != nil {
		return err
	}
	if o.socket != "" {
		if cfg.Socket, err = filepath.Abs(o.socket); err != nil {
			return fmt.Errorf("--socket: %w", err)
		}
		if err := cfg.Validate(); err != nil {
			return err
		}
	}
	if o.containerd {
		return printContainerd(&cfg)
	}
	if o.rebuild {
		return rebuild(&cfg, o.force)
	}
	return serve(ctx, o, &cfg, path)
}

func serve(ctx context.Context, o options, cfg *config.Config, path string) error {
	level := slog.LevelInfo
	switch {
	case o.debug:
		level = slog.LevelDebug
	case o.teardown:
		level = slog.LevelWarn // its user waits at a terminal
	}
	options := daemon.Options{
		Config:     cfg,
		ConfigPath: path,
		Throwaway:  o.standalone != "",
		Ready: func() error {
			_, err := fmt.Printf("brigd: ready on %s\n", cfg.Socket)
			return err
		},
		Log: slog.New(handler(o.logFormat, &slog.HandlerOptions{Level: level})),
	}
	if o.teardown {
		return daemon.Teardown(ctx, options, o.force)
	}
	return daemon.Run(ctx, options)
}

// handler writes lines for people, or JSON for machines.
func handler(format string, options *slog.HandlerOptions) slog.Handler {
	if format == "json" {
		return slog.NewJSONHandler(os.Stderr, options)
	}
	return slog.NewTextHandler(os.Stderr, options)
}

func parse(args []string) (o options, err error) {
	fs := flag.NewFlagSet("brigd", flag.ContinueOnError)
	fs.StringVar(&o.config, "config", "", "configuration `FILE` (default $BRIG_CONFIG or "+config.DefaultPath+")")
	fs.StringVar(&o.socket, "socket", "", "serve on the unix socket `PATH` instead of the configured one")
	fs.StringVar(&o.standalone, "standalone", "", "be a throwaway node that keeps everything under `DIR`")
	fs.BoolVar(&o.containerd, "containerd-config", false, "print the configuration for a containerd of the node's own, and end")
	fs.StringVar(&o.logFormat, "log-format", "text", "write the log as `text or json`")
	fs.BoolVar(&o.debug, "debug", false, "log every call")
	fs.BoolVar(&o.teardown, "teardown", false, "remove everything that the node holds, and end")
	fs.BoolVar(&o.rebuild, "rebuild-store", false, "make a new store of what lies with the sandboxes, and end")
	fs.BoolVar(&o.force, "force", false, "with --teardown: end the sandboxes that live; with --rebuild-store: forget those that have no record left")
	fs.BoolVar(&o.version, "version", false, "print the version, and end")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q: brigd takes flags only", fs.Arg(0))
	}
	if o.standalone != "" && o.config != "" {
		return o, errors.New("--standalone writes a configuration of its own: put changes in DIR/overrides.toml instead of --config")
	}
	if o.logFormat != "text" && o.logFormat != "json" {
		return o, fmt.Errorf("--log-format %q: want text or json", o.logFormat)
	}
	if o.force && !o.teardown && !o.rebuild {
		return o, errors.New("--force belongs to --teardown or --rebuild-store")
	}
	if o.teardown && o.rebuild {
		return o, errors.New("--teardown and --rebuild-store exclude each other: keep one")
	}
	if o.teardown && o.standalone != "" {
		return o, errors.New("a throwaway node needs no --teardown: it goes when its brigd ends")
	}
	return o, nil
}

func rebuild(cfg *config.Config, force bool) error {
	done, err := daemon.RebuildStore(cfg, force)
	if err != nil {
		return err
	}
	fmt.Printf("records: %d\n", done.Records)
	if done.Kept != "" {
		fmt.Printf("the old store: %s\n", done.Kept)
	}
	for _, lost := range done.Lost {
		fmt.Printf("no record left, brigd will remove it: %s\n", lost)
	}
	return nil
}

func printContainerd(cfg *config.Config) error {
	data, err := containerd.Render(cfg)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(data)
	return err
}
