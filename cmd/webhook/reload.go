package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"sync/atomic"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
)

// policyUser is a part of the process that the policy applies to.
type policyUser interface {
	SetPolicy(policy config.Policy)
}

// reloader applies the policy of the ConfigMap to the running process. If another setting differs from that of the
// start, it applies nothing: the chart then replaces the pods, and a policy can depend on the other settings.
type reloader struct {
	key     string // of the configuration file in the ConfigMap
	current config.Config
	users   []policyUser
	log     logr.Logger
	// rejected says that the policy in force is not that of the ConfigMap, because that is not valid.
	rejected atomic.Bool
}

// configMapOptions limit the cache to the ConfigMap, because the service account may read only that one.
func (f *flags) configMapOptions() cache.ByObject {
	return cache.ByObject{Namespaces: map[string]cache.Config{f.certificate.Namespace: {
		FieldSelector: fields.OneTermEqualSelector("metadata.name", f.configMap),
	}}}
}

func (f *flags) newReloader(cfg config.Config, log logr.Logger, users ...policyUser) *reloader {
	return &reloader{key: filepath.Base(f.config), current: cfg, users: users, log: log}
}

// watch applies each change of the ConfigMap that the informer reports.
func (r *reloader) watch(informer cache.Informer) error {
	_, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    r.changed,
		UpdateFunc: func(_, object any) { r.changed(object) },
		DeleteFunc: func(any) { r.reject(errors.New("the ConfigMap was deleted")) },
	})
	if err != nil {
		return fmt.Errorf("watching the ConfigMap of the configuration: %w", err)
	}
	return nil
}

// changed applies the policy of the ConfigMap as a whole, or nothing of it. The informer calls it one by one.
func (r *reloader) changed(object any) {
	configMap, ok := object.(*corev1.ConfigMap)
	if !ok {
		return
	}
	cfg, err := annotation.ParseConfig([]byte(configMap.Data[r.key]))
	switch {
	case configMap.Data[r.key] == "":
		r.reject(fmt.Errorf("the ConfigMap must have the key %s", r.key))
		return
	case err != nil:
		r.reject(err)
		return
	}
	r.rejected.Store(false)
	same := r.current
	same.Policy = cfg.Policy
	switch {
	case reflect.DeepEqual(cfg, r.current):
		return
	case !reflect.DeepEqual(cfg, same):
		r.log.Info("the policy stays in force until this pod is replaced, because other settings changed too")
		return
	}
	r.current = cfg
	for _, user := range r.users {
		user.SetPolicy(cfg.Policy)
	}
	r.log.Info("policy changed", "mode", cfg.Policy.Mode, "namespaces", len(cfg.Policy.Namespaces))
}

func (r *reloader) reject(err error) {
	r.rejected.Store(true)
	r.log.Error(err, "the last valid policy stays in force")
}
