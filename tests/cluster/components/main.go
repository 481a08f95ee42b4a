// Command kubernetes is every Kubernetes component that the test cluster runs, and its
// relay, selected by the first argument, so that one link step serves them all.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	"sandbox.dev/cluster/relay"
)

var components = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllermanager.NewControllerManagerCommand,
	"kube-proxy":              proxy.NewProxyCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
	"kubectl":                 kubectl.NewDefaultKubectlCommand,
	"relay":                   newRelayCommand,
}

func newRelayCommand() *cobra.Command {
	return &cobra.Command{
		Use:          "relay FROM TO",
		Short:        "Hand connections on; both are tcp:HOST:PORT or unix:PATH",
		Args:         cobra.ExactArgs(2),
		SilenceUsage: true,
		RunE:         func(_ *cobra.Command, arguments []string) error { return relay.Run(arguments[0], arguments[1]) },
	}
}

func main() {
	if len(os.Args) < 2 || components[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: kubernetes COMPONENT [ARGUMENT ...]")
		os.Exit(2)
	}
	component := components[os.Args[1]]
	// Each component's command reads os.Args itself, as if it were the whole program.
	os.Args = os.Args[1:]
	os.Exit(cli.Run(component()))
}
