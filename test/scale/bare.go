package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
)

// bare is the yardstick of firstUses. It creates pods that request nothing in n new namespaces at once, and as soon as
// a pod exists all objects of its namespace at once, with the webhook's account. The objects are those of the last
// first uses. No replica runs meanwhile.
func (c *cluster) bare(ctx context.Context, n int) (requested times, err error) {
	config := c.plane.Config()
	config.QPS = -1
	config.Impersonate.UserName = webhookAccount
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	like := numbered(fmt.Sprintf("new-%d", c.rounds-1), 0)
	templates, err := c.templates(ctx, client, like)
	if err != nil {
		return nil, err
	}
	if err := c.webhook.Stop(ctx); err != nil {
		return nil, err
	}
	var made []string
	var mu sync.Mutex
	requested, _, err = c.atOnce(ctx, n, func(ctx context.Context, pod *corev1.Pod) (time.Time, error) {
		pod.Annotations = nil
		mu.Lock()
		made = append(made, pod.Namespace)
		mu.Unlock()
		if _, err := c.client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			return time.Time{}, err
		}
		return time.Now(), createLike(ctx, client, templates, like, pod.Namespace)
	})
	if err == nil {
		c.served -= n
		err = each(ctx, len(made), func(ctx context.Context, i int) error { return remove(ctx, client, made[i]) })
	}
	if err != nil {
		return nil, err
	}
	if _, _, err = c.lead(ctx); err != nil {
		return nil, err
	}
	return requested, c.plane.WaitForAdmission(ctx, c.release)
}

// templates returns the managed objects of a namespace by resource, in JSON, as they were created.
func (c *cluster) templates(
	ctx context.Context,
	client dynamic.Interface,
	namespace string,
) (map[string][]string, error) {
	templates := map[string][]string{}
	for resource, count := range meshResources {
		list, err := client.Resource(meshResource(resource)).Namespace(namespace).List(ctx, metav1.ListOptions{
			LabelSelector: managed,
		})
		if err != nil {
			return nil, err
		}
		if len(list.Items) != count {
			return nil, fmt.Errorf("namespace %s has %d %s, want %d", namespace, len(list.Items), resource, count)
		}
		for _, o := range list.Items {
			bare := unstructured.Unstructured{Object: map[string]any{"spec": o.Object["spec"]}}
			bare.SetGroupVersionKind(o.GroupVersionKind())
			bare.SetNamespace(namespace)
			bare.SetName(o.GetName())
			bare.SetLabels(o.GetLabels())
			bare.SetAnnotations(o.GetAnnotations())
			text, err := json.Marshal(bare.Object)
			if err != nil {
				return nil, err
			}
			templates[resource] = append(templates[resource], string(text))
		}
	}
	return templates, nil
}

// remove deletes the objects of a namespace.
func remove(ctx context.Context, client dynamic.Interface, namespace string) error {
	for resource := range meshResources {
		objects := client.Resource(meshResource(resource)).Namespace(namespace)
		list, err := objects.List(ctx, metav1.ListOptions{LabelSelector: managed})
		if err != nil {
			return err
		}
		for _, o := range list.Items {
			if err := objects.Delete(ctx, o.GetName(), metav1.DeleteOptions{}); err != nil {
				return err
			}
		}
	}
	return nil
}

// createLike creates the objects of one namespace in another, all at once.
func createLike(
	ctx context.Context,
	client dynamic.Interface,
	templates map[string][]string,
	like, namespace string,
) error {
	var all sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for resource, texts := range templates {
		for _, text := range texts {
			all.Go(func() {
				object := &unstructured.Unstructured{}
				err := json.Unmarshal([]byte(strings.ReplaceAll(text, like, namespace)), object)
				if err == nil {
					_, err = client.Resource(meshResource(resource)).Namespace(namespace).Create(ctx, object, metav1.CreateOptions{})
				}
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			})
		}
	}
	all.Wait()
	return errors.Join(errs...)
}
