{{/* The pod of a worker, the same for Deployment and StatefulSet. */}}
{{- define "streams.pod" -}}
metadata:
  labels:
    {{- include "streams.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A changed setting restarts the workers.
    checksum/settings: {{ toJson .Values.settings | sha256sum }}
    {{- if .Values.credentials.values }}
    checksum/credentials: {{ toJson .Values.credentials.values | sha256sum }}
    {{- end }}
    {{- if and .Values.prometheus.podAnnotations (not .Values.podMonitor.enabled) (not .Values.serviceMonitor.enabled) }}
    prometheus.io/scrape: "true"
    prometheus.io/path: /metrics
    prometheus.io/port: {{ include "streams.text" .Values.settings.WEB_PORT | quote }}
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "streams.serviceAccountName" . }}
  # The worker never asks Kubernetes anything; IRSA and EKS Pod Identity bring a token of their own.
  automountServiceAccountToken: false
  # Else a Service called `streams` would set STREAMS_PORT=tcp://... in every pod, and the worker refuses to start
  # on variables that look like its settings but are not.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  containers:
    - name: worker
      image: {{ include "streams.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      envFrom:
        - configMapRef:
            name: {{ include "streams.fullname" . }}
      {{- $static := eq .Values.workload.kind "StatefulSet" }}
      {{- $secrets := include "streams.secretKeys" . | fromYaml }}
      {{- if or $static $secrets .Values.extraEnv }}
      env:
        {{- if $static }}
        # Static membership: the pod's name is the same after a restart, and nobody else's.
        - name: STREAMS_KAFKA_GROUP_INSTANCE_ID
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        {{- end }}
        {{- range $name, $key := $secrets }}
        - name: STREAMS_{{ $name }}
          valueFrom:
            secretKeyRef:
              name: {{ include "streams.secretName" $ }}
              key: {{ $key | quote }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      ports:
        - name: web
          containerPort: {{ include "streams.text" .Values.settings.WEB_PORT }}
          protocol: TCP
      startupProbe:
        httpGet:
          path: /health/live
          port: web
        {{- toYaml .Values.probes.startup | nindent 8 }}
      livenessProbe:
        httpGet:
          path: /health/live
          port: web
        {{- toYaml .Values.probes.liveness | nindent 8 }}
      readinessProbe:
        httpGet:
          path: /health/ready
          port: web
        {{- toYaml .Values.probes.readiness | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: tmp
          mountPath: /tmp
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- $selector := dict "labelSelector" (dict "matchLabels" (include "streams.selectorLabels" . | fromYaml)) }}
    {{- range .Values.topologySpreadConstraints }}
    - {{- toYaml (merge (deepCopy .) $selector) | nindent 6 }}
    {{- end }}
  {{- end }}
{{- end -}}
