package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"istio.io/istio/pkg/model"
)

// dump is the output of adsdump: the configuration of a sidecar, each resource in protobuf's JSON.
type dump struct {
	Clusters  []json.RawMessage `json:"clusters"`
	Listeners []json.RawMessage `json:"listeners"`
	Routes    []json.RawMessage `json:"routes"`
	// NameTable has one element, for a sidecar whose metadata have DNS_CAPTURE "true".
	NameTable []json.RawMessage `json:"nameTable"`
}

// adsdump connects to istiod as the sidecar given by -node, fetches its clusters, listeners, routes and name table
// once, and prints them.
func adsdump(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("adsdump", flag.ContinueOnError)
	address := flags.String("address", "127.0.0.1:15010", "istiod's plaintext gRPC port")
	node := flags.String("node", "", "the sidecar's id: sidecar~IP~POD.NAMESPACE~NAMESPACE.svc.cluster.local")
	metadata := flags.String("metadata", "{}", "the node's metadata, a JSON object")
	timeout := flags.Duration("timeout", 20*time.Second, "for all answers")
	if err := flags.Parse(args); err != nil {
		return err
	}
	fields := &structpb.Struct{}
	if err := protojson.Unmarshal([]byte(*metadata), fields); err != nil {
		return fmt.Errorf("-metadata: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	d, err := askADS(ctx, *address, &core.Node{Id: *node, Metadata: fields})
	if err != nil {
		return fmt.Errorf("connecting to %s as %s: %w", *address, *node, err)
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", " ")
	return encoder.Encode(d)
}

func askADS(ctx context.Context, address string, node *core.Node) (*dump, error) {
	connection, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(connection).StreamAggregatedResources(ctx,
		grpc.MaxCallRecvMsgSize(64<<20))
	if err != nil {
		return nil, err
	}
	fetch := func(typeURL string, names ...string) ([]*anypb.Any, error) {
		return answer(stream, node, typeURL, names)
	}
	clusters, err := fetch(model.ClusterType)
	if err != nil {
		return nil, err
	}
	listeners, err := fetch(model.ListenerType)
	if err != nil {
		return nil, err
	}
	names, err := routeNames(listeners)
	if err != nil {
		return nil, err
	}
	routes, err := fetch(model.RouteType, names...)
	if err != nil {
		return nil, err
	}
	var table []*anypb.Any
	if node.GetMetadata().GetFields()["DNS_CAPTURE"].GetStringValue() == "true" {
		if table, err = fetch(model.NameTableType); err != nil {
			return nil, err
		}
	}
	return newDump(clusters, listeners, routes, table)
}

// answer requests one type and returns the first answer. It ignores pushes of other types in between.
func answer(stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient, node *core.Node,
	typeURL string, names []string,
) ([]*anypb.Any, error) {
	request := &discoveryv3.DiscoveryRequest{Node: node, TypeUrl: typeURL, ResourceNames: names}
	if err := stream.Send(request); err != nil {
		return nil, err
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return nil, fmt.Errorf("waiting for %s: %w", typeURL, err)
		}
		request := &discoveryv3.DiscoveryRequest{
			TypeUrl:       response.TypeUrl,
			VersionInfo:   response.VersionInfo,
			ResponseNonce: response.Nonce,
		}
		if response.TypeUrl == typeURL {
			request.ResourceNames = names
		}
		if err := stream.Send(request); err != nil {
			return nil, err
		}
		if response.TypeUrl == typeURL {
			return response.Resources, nil
		}
	}
}

// routeNames returns the names of the route configurations in the listeners' HTTP filters.
func routeNames(listeners []*anypb.Any) ([]string, error) {
	names := map[string]bool{}
	for _, resource := range listeners {
		l := &listenerv3.Listener{}
		if err := resource.UnmarshalTo(l); err != nil {
			return nil, err
		}
		chains := slices.Clone(l.FilterChains)
		if l.DefaultFilterChain != nil {
			chains = append(chains, l.DefaultFilterChain)
		}
		for _, chain := range chains {
			for _, filter := range chain.Filters {
				manager := &hcm.HttpConnectionManager{}
				if filter.GetTypedConfig().MessageIs(manager) && filter.GetTypedConfig().UnmarshalTo(manager) == nil &&
					manager.GetRds() != nil {
					names[manager.GetRds().RouteConfigName] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}

func newDump(clusters, listeners, routes, table []*anypb.Any) (*dump, error) {
	d := &dump{}
	for _, part := range []struct {
		resources []*anypb.Any
		to        *[]json.RawMessage
	}{{clusters, &d.Clusters}, {listeners, &d.Listeners}, {routes, &d.Routes}, {table, &d.NameTable}} {
		*part.to = []json.RawMessage{}
		for _, resource := range part.resources {
			message, err := resource.UnmarshalNew()
			if err != nil {
				return nil, err
			}
			text, err := protojson.Marshal(message)
			if err != nil {
				return nil, err
			}
			*part.to = append(*part.to, text)
		}
	}
	return d, nil
}
