{{- define "streams.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "streams.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "streams.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "streams.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "streams.selectorLabels" -}}
app.kubernetes.io/name: {{ include "streams.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "streams.labels" -}}
{{ include "streams.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "streams.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "streams.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "streams.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The Secret that holds the secret settings; empty when there are none. */}}
{{- define "streams.secretName" -}}
{{- if .Values.credentials.existingSecret -}}
{{- .Values.credentials.existingSecret -}}
{{- else if or .Values.credentials.values .Values.credentials.externalSecret.enabled -}}
{{- printf "%s-credentials" (include "streams.fullname" . | trunc 51 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{/* Setting: key in that Secret, as YAML. */}}
{{- define "streams.secretKeys" -}}
{{- $keys := dict -}}
{{- if .Values.credentials.existingSecret -}}
{{- $keys = .Values.credentials.keys -}}
{{- else if .Values.credentials.externalSecret.enabled -}}
{{- range $name, $_ := .Values.credentials.externalSecret.data }}{{ $keys = set $keys $name $name }}{{ end -}}
{{- else -}}
{{- range $name, $_ := .Values.credentials.values }}{{ $keys = set $keys $name $name }}{{ end -}}
{{- end -}}
{{- toYaml $keys -}}
{{- end -}}

{{/* The headless Service; a StatefulSet needs one. */}}
{{- define "streams.hasService" -}}
{{- if or .Values.service.enabled (eq .Values.workload.kind "StatefulSet") }}true{{ end -}}
{{- end -}}

{{- define "streams.serviceName" -}}
{{- printf "%s-web" (include "streams.fullname" . | trunc 59 | trimSuffix "-") -}}
{{- end -}}

{{/* Not those of the workers: the Service and the budget must not count the test's pod. */}}
{{- define "streams.testLabels" -}}
app.kubernetes.io/name: {{ printf "%s-test" (include "streams.name" . | trunc 58 | trimSuffix "-") }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end -}}

{{- define "streams.protocol" -}}
{{- default "PLAINTEXT" .Values.settings.KAFKA_SECURITY_PROTOCOL | upper -}}
{{- end -}}

{{/* The worker's SASL mechanism in KEDA's words. */}}
{{- define "streams.kedaSasl" -}}
{{- $words := dict "PLAIN" "plaintext" "SCRAM-SHA-256" "scram_sha256" "SCRAM-SHA-512" "scram_sha512" "OAUTHBEARER" "oauthbearer" -}}
{{- if hasPrefix "SASL" (include "streams.protocol" .) -}}
{{- get $words (default "" .Values.settings.KAFKA_SASL_MECHANISM | upper) | default "none" -}}
{{- else -}}
none
{{- end -}}
{{- end -}}

{{/* Whether TOPICS names exactly one topic. */}}
{{- define "streams.singleTopic" -}}
{{- $topics := default "" .Values.settings.TOPICS | trim -}}
{{- if not (or (contains "," $topics) (hasPrefix "^" $topics)) }}true{{ end -}}
{{- end -}}

{{/* A setting as the text of an environment variable. Helm reads numbers as floats and would print 67108864 as 6.7108864e+07. */}}
{{- define "streams.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- int64 . | toString -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{/* Stops with one message that lists every mistake that the schema cannot see. */}}
{{- define "streams.validate" -}}
{{- $settings := .Values.settings -}}
{{- $credentials := .Values.credentials -}}
{{- $mistakes := list -}}
{{- $place := dict "S3_BUCKET" "my-events" -}}
{{- if eq (lower (default "s3" $settings.SINK)) "sqs" -}}
{{- $place = dict "SQS_QUEUE_URL" "https://sqs.eu-central-1.amazonaws.com/111122223333/my-events" -}}
{{- end -}}
{{- range $name, $example := merge (dict "TOPICS" "orders,payments" "CONSUMER_GROUP" "orders-to-s3") $place -}}
{{- if not (get $settings $name) -}}
{{- $mistakes = append $mistakes (printf "settings.%s is missing (for example %s)" $name $example) -}}
{{- end -}}
{{- end -}}
{{- if not (or $settings.KAFKA_BOOTSTRAP_SERVERS $settings.KAFKA_CLIENT_PROPERTIES) -}}
{{- $mistakes = append $mistakes "settings.KAFKA_BOOTSTRAP_SERVERS is missing (for example broker-1:9092,broker-2:9092)" -}}
{{- end -}}
{{- $drain := default 25 $settings.DRAIN_TIMEOUT_SECONDS | float64 -}}
{{- if lt (float64 .Values.terminationGracePeriodSeconds) (addf $drain 5) -}}
{{- $mistakes = append $mistakes (printf "terminationGracePeriodSeconds is %v, but must be at least %v: settings.DRAIN_TIMEOUT_SECONDS (%v) and 5 s to commit and leave the group. Kubernetes would kill the worker while it drains" .Values.terminationGracePeriodSeconds (addf $drain 5) $drain) -}}
{{- end -}}
{{- $external := $credentials.externalSecret -}}
{{- $sources := list -}}
{{- if $credentials.existingSecret }}{{ $sources = append $sources "credentials.existingSecret" }}{{ end -}}
{{- if $credentials.values }}{{ $sources = append $sources "credentials.values" }}{{ end -}}
{{- if $external.enabled }}{{ $sources = append $sources "credentials.externalSecret" }}{{ end -}}
{{- if gt (len $sources) 1 -}}
{{- $mistakes = append $mistakes (printf "%s are set at the same time: choose one" (join " and " $sources)) -}}
{{- end -}}
{{- if and $external.enabled (not $external.secretStoreRef.name) -}}
{{- $mistakes = append $mistakes "credentials.externalSecret.secretStoreRef.name is missing: the SecretStore to read from" -}}
{{- end -}}
{{- if and $external.enabled (not $external.data) -}}
{{- $mistakes = append $mistakes "credentials.externalSecret.data is empty: say where in the store each setting is" -}}
{{- end -}}
{{- range $name, $_ := include "streams.secretKeys" . | fromYaml -}}
{{- if get $settings $name -}}
{{- $mistakes = append $mistakes (printf "%s is in settings and in the credentials: choose one" $name) -}}
{{- end -}}
{{- end -}}
{{- if and $credentials.existingSecret (not $credentials.keys) -}}
{{- $mistakes = append $mistakes "credentials.keys is empty: say which setting is under which key of credentials.existingSecret" -}}
{{- end -}}
{{- if and $credentials.keys (not $credentials.existingSecret) -}}
{{- $mistakes = append $mistakes "credentials.keys is set without credentials.existingSecret" -}}
{{- end -}}
{{- if and (not .Values.serviceAccount.create) .Values.serviceAccount.annotations -}}
{{- $mistakes = append $mistakes "serviceAccount.annotations is set, but serviceAccount.create is false: annotate the account itself" -}}
{{- end -}}
{{- if and .Values.podMonitor.enabled .Values.serviceMonitor.enabled -}}
{{- $mistakes = append $mistakes "podMonitor and serviceMonitor are both enabled: every worker would be scraped twice" -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled (not (include "streams.hasService" .)) -}}
{{- $mistakes = append $mistakes "serviceMonitor.enabled needs service.enabled" -}}
{{- end -}}
{{- if eq .Values.workload.kind "StatefulSet" -}}
{{- $session := default 45 $settings.KAFKA_SESSION_TIMEOUT_SECONDS | float64 -}}
{{- if lt $session (addf $drain 10) -}}
{{- $mistakes = append $mistakes (printf "settings.KAFKA_SESSION_TIMEOUT_SECONDS is %v, but must be at least %v with a StatefulSet: a worker that drains (%v) and starts again would come back after the group has given its partitions away" $session (addf $drain 10) $drain) -}}
{{- end -}}
{{- end -}}
{{- $scaling := .Values.autoscaling -}}
{{- if ne $scaling.kind "none" -}}
{{- if not $scaling.partitions -}}
{{- $mistakes = append $mistakes (printf "autoscaling.partitions is missing: how many partitions %s has, all together" (default "settings.TOPICS" $settings.TOPICS)) -}}
{{- else if gt (int $scaling.maxReplicas) (int $scaling.partitions) -}}
{{- $mistakes = append $mistakes (printf "autoscaling.maxReplicas is %v, but the topics have %v partitions: more workers would be idle" $scaling.maxReplicas $scaling.partitions) -}}
{{- end -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- $mistakes = append $mistakes (printf "autoscaling.minReplicas (%v) is above autoscaling.maxReplicas (%v)" $scaling.minReplicas $scaling.maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- if eq $scaling.kind "hpa" -}}
{{- if not (or $scaling.hpa.targetCPUUtilizationPercentage $scaling.hpa.metrics) -}}
{{- $mistakes = append $mistakes "autoscaling.hpa has neither targetCPUUtilizationPercentage nor metrics" -}}
{{- end -}}
{{- if and $scaling.hpa.targetCPUUtilizationPercentage (not (dig "requests" "cpu" "" .Values.resources)) -}}
{{- $mistakes = append $mistakes "autoscaling.hpa.targetCPUUtilizationPercentage is a share of resources.requests.cpu, which is missing" -}}
{{- end -}}
{{- end -}}
{{- if eq $scaling.kind "keda" -}}
{{- if not $settings.KAFKA_BOOTSTRAP_SERVERS -}}
{{- $mistakes = append $mistakes "autoscaling.kind keda needs settings.KAFKA_BOOTSTRAP_SERVERS: KEDA does not read client.properties" -}}
{{- end -}}
{{- if and (hasPrefix "SASL" (include "streams.protocol" .)) (eq (include "streams.kedaSasl" .) "none") -}}
{{- $mistakes = append $mistakes "autoscaling.kind keda needs settings.KAFKA_SASL_MECHANISM" -}}
{{- end -}}
{{- if and $scaling.keda.limitToPartitionsWithLag (not (include "streams.singleTopic" .)) -}}
{{- $mistakes = append $mistakes "autoscaling.keda.limitToPartitionsWithLag needs a single topic in settings.TOPICS" -}}
{{- end -}}
{{- end -}}
{{- if $mistakes -}}
{{- fail (printf "\n\nThe values are not complete or contradict each other:\n- %s\n" (join "\n- " $mistakes)) -}}
{{- end -}}
{{- end -}}
